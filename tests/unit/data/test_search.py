"""Search records by text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlxft.data import search as searching
from mlxft.data.search import Query, SearchHits, SearchRequest, search, text_of
from mlxft.errors import DataError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two hundred lamps, read in many pieces."""
    monkeypatch.setattr(searching, "PIECE", 512)
    path = tmp_path / "train.jsonl"
    lines = (json.dumps({"prompt": f"Turn on lamp {n}.", "completion": "on"}) for n in range(200))
    path.write_text("".join(line + "\n" for line in lines))
    return path


def found(path: Path, text: str, *, expression: bool = False, start: int = 0) -> list[str]:
    """The prompts of the hits, in search order."""
    request = SearchRequest(str(path), Query(text, expression), start)
    offsets = [offset for step in search(request) for offset in step.offsets]
    content = path.read_bytes()
    return [json.loads(content[at:].split(b"\n")[0])["prompt"] for at in offsets]


class TestSearch:
    def test_every_record_with_the_text_is_found(self, path: Path) -> None:
        assert found(path, "lamp 17") == [f"Turn on lamp {n}." for n in (17, *range(170, 180))]

    def test_a_regular_expression_is_matched(self, path: Path) -> None:
        assert found(path, r"lamp (3|19)\.", expression=True) == [
            "Turn on lamp 3.",
            "Turn on lamp 19.",
        ]

    def test_lower_case_matches_capitals_but_not_vice_versa(self, path: Path) -> None:
        assert len(found(path, "turn")) == 200
        assert found(path, "TURN") == []

    def test_it_wraps_around(self, path: Path) -> None:
        start = path.read_bytes().index(b'{"prompt": "Turn on lamp 100.')
        assert found(path, r"lamp (5|105|150)\.", expression=True, start=start) == [
            "Turn on lamp 105.",
            "Turn on lamp 150.",
            "Turn on lamp 5.",
        ]

    def test_progress_covers_the_whole_file(self, path: Path) -> None:
        steps = list(search(SearchRequest(str(path), Query("x"), 0)))
        assert len(steps) > 10
        assert steps[-1].searched == path.stat().st_size

    @pytest.mark.parametrize("text", ['say "hi"', "näh", "a\\b", "tab\there", "</s>"])
    def test_text_that_json_escapes_is_found(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "train.jsonl"
        records = ({"prompt": text}, {"prompt": "none"})
        path.write_text("".join(json.dumps(each) + "\n" for each in records))
        assert found(path, text) == [text]

    def test_escaped_letters_are_found(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_text('{"prompt": "\\u006camp"}\n')
        assert found(path, "lamp") == ["lamp"]

    def test_nested_texts_are_searched_but_not_keys(self) -> None:
        raw = b'{"messages": [{"role": "user", "content": ["deep", 7]}]}'
        assert text_of(raw) == "user\ndeep\n7"

    def test_a_broken_line_is_searched_as_text(self) -> None:
        assert text_of(b'{"prompt": "lam\xff') == '{"prompt": "lam\ufffd'

    def test_carriage_returns_do_not_shift_offsets(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_bytes(b'{"prompt": "a"}\r\n{"prompt": "b"}\r\n')
        assert found(path, "b") == ["b"]

    def test_an_invalid_expression_raises(self) -> None:
        with pytest.raises(DataError, match=re.escape("(: invalid regular expression")):
            Query("(", True).pattern()


class TestChildProcess:
    def test_it_writes_hits_and_progress(self, path: Path) -> None:
        request = SearchRequest(str(path), Query("lamp 199"), 0)
        process = subprocess.run(
            [sys.executable, "-m", "mlxft.data.search"],
            input=msgspec.json.encode(request),
            capture_output=True,
            check=True,
        )
        hits = [msgspec.json.decode(line, type=SearchHits) for line in process.stdout.splitlines()]
        assert sum(len(each.offsets) for each in hits) == 1
        assert hits[-1].searched == path.stat().st_size

"""Finding records by their text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlxft.data import search as searching
from mlxft.data.search import Found, Order, Query, search, text_of
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
    """The prompts of what is found, in the order of the search."""
    order = Order(str(path), Query(text, expression), start)
    offsets = [offset for step in search(order) for offset in step.offsets]
    content = path.read_bytes()
    return [json.loads(content[at:].split(b"\n")[0])["prompt"] for at in offsets]


class TestSearch:
    def test_every_record_with_the_text_is_found(self, path: Path) -> None:
        assert found(path, "lamp 17") == [f"Turn on lamp {n}." for n in (17, *range(170, 180))]

    def test_an_expression_is_matched(self, path: Path) -> None:
        assert found(path, r"lamp (3|19)\.", expression=True) == [
            "Turn on lamp 3.",
            "Turn on lamp 19.",
        ]

    def test_small_letters_find_capitals_and_capitals_only_themselves(self, path: Path) -> None:
        assert len(found(path, "turn")) == 200
        assert found(path, "TURN") == []

    def test_it_goes_round_from_where_it_begins(self, path: Path) -> None:
        start = path.read_bytes().index(b'{"prompt": "Turn on lamp 100.')
        assert found(path, r"lamp (5|105|150)\.", expression=True, start=start) == [
            "Turn on lamp 105.",
            "Turn on lamp 150.",
            "Turn on lamp 5.",
        ]

    def test_all_of_the_file_is_told_as_searched(self, path: Path) -> None:
        steps = list(search(Order(str(path), Query("x"), 0)))
        assert len(steps) > 10
        assert steps[-1].searched == path.stat().st_size

    @pytest.mark.parametrize("text", ['say "hi"', "näh", "a\\b", "tab\there", "</s>"])
    def test_text_that_json_writes_in_codes_is_found(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "train.jsonl"
        records = ({"prompt": text}, {"prompt": "none"})
        path.write_text("".join(json.dumps(each) + "\n" for each in records))
        assert found(path, text) == [text]

    def test_letters_written_as_codes_are_found(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_text('{"prompt": "\\u006camp"}\n')
        assert found(path, "lamp") == ["lamp"]

    def test_keys_are_not_searched_and_deep_texts_are(self) -> None:
        raw = b'{"messages": [{"role": "user", "content": ["deep", 7]}]}'
        assert text_of(raw) == "user\ndeep\n7"

    def test_a_broken_line_is_searched_as_it_stands(self) -> None:
        assert text_of(b'{"prompt": "lam\xff') == '{"prompt": "lam\ufffd'

    def test_carriage_returns_move_no_offsets(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        path.write_bytes(b'{"prompt": "a"}\r\n{"prompt": "b"}\r\n')
        assert found(path, "b") == ["b"]

    def test_what_is_no_expression_is_said_so(self) -> None:
        with pytest.raises(DataError, match=re.escape("(: this is no regular expression")):
            Query("(", True).pattern()


class TestItsProcess:
    def test_it_writes_what_it_finds_and_how_far_it_is(self, path: Path) -> None:
        order = Order(str(path), Query("lamp 199"), 0)
        process = subprocess.run(
            [sys.executable, "-m", "mlxft.data.search"],
            input=msgspec.json.encode(order),
            capture_output=True,
            check=True,
        )
        told = [msgspec.json.decode(line, type=Found) for line in process.stdout.splitlines()]
        assert sum(len(each.offsets) for each in told) == 1
        assert told[-1].searched == path.stat().st_size

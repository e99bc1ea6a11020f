"""`check-data` and `split-data`: what they print, and their exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxft.data.splitting import Shares
from mlxft.errors import DataError
from mlxft_tui.cli.data import MOST_SHOWN, check_data, split_data
from mlxft_tui.session import Session
from support.records import records, write_records


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.chdir(tmp_path)
    return Session(tmp_path)


class TestChecking:
    def test_a_faultless_folder_is_one_line_per_file(
        self, session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_records(session.folder / "data" / "train.jsonl", records(60))
        write_records(session.folder / "data" / "valid.jsonl", records(20, first=1000))
        assert check_data(session, "data", None, as_json=False) == 0
        assert capsys.readouterr().out.splitlines() == [
            "data/train.jsonl · 60 records · prompt/completion 60",
            "data/valid.jsonl · 20 records · prompt/completion 20",
            "no faults found in 80 records",
        ]

    def test_a_path_that_is_not_here_starts_at_the_project(
        self, session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_records(Path("lamps/data/train.jsonl"), records(60))
        assert check_data(Session(session.folder / "lamps"), "data", None, as_json=False) == 0
        assert "no faults found in 60 records" in capsys.readouterr().out

    def test_faults_and_warnings_name_file_line_and_remedy(
        self, session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key = {"prompt": "key", "completion": "sk-" + "a1" * 20}
        write_records(Path("data/train.jsonl"), [*records(3), "{", key, records(1)[0]])
        (first,) = records(1)
        assert isinstance(first, dict)
        write_records(Path("data/test.jsonl"), [first, {**first, "completion": "other"}])
        assert check_data(session, "data", None, as_json=False) == 1
        output = capsys.readouterr().out
        for sentence in (
            "data/train.jsonl line 4: invalid JSON at column 2",
            "data/train.jsonl line 5: the record seems to contain an OpenAI or Anthropic key",
            "data/train.jsonl line 6: the record repeats line 1; remove it",
            "data/test.jsonl line 1: the record is also in train; remove it from one of them",
            "data/test.jsonl line 2: the record answers the prompt of line 1 of train differently;",
            "data/test.jsonl: 2 records are too few to evaluate a run",
            "1 fault found in 8 records, ",
        ):
            assert sentence in output

    def test_a_frequent_kind_does_not_hide_a_rare_one(
        self, session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_records(Path("train.jsonl"), [*["{}"] * (MOST_SHOWN + 7), "[]", *records(4)])
        assert check_data(session, "train.jsonl", None, as_json=False) == 1
        output = capsys.readouterr().out
        assert "… and 7 more: unknown format" in output
        assert "this is a JSON list, not a record" in output

    def test_json_lists_all_faults(
        self, session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_records(Path("mix/a.jsonl"), [*records(2), "{}"])
        Path("mix/b.csv").write_text("question,answer\na,b\nc,\n")
        assert check_data(session, "mix", None, as_json=True) == 1
        (found,) = json.loads(capsys.readouterr().out)["files"]
        places = [(fault["file"], fault["line"], fault["kind"]) for fault in found["faults"]]
        assert places == [("mix/a.jsonl", 3, "unknown format"), ("mix/b.csv", 2, "empty field")]
        statistics: dict[str, Any] = found["statistics"]
        assert statistics["formats"] == {"prompt/completion": 2, "question/answer": 1}
        assert found["tokens"] is None

    def test_the_projects_columns_are_used(self, session: Session) -> None:
        session.recipe_file.write_text("columns: {prompt: ask, completion: reply}\n")
        write_records(Path("train.jsonl"), [{"ask": "a", "reply": "b"}])
        assert check_data(session, "train.jsonl", None, as_json=False) == 0

    def test_a_folder_without_records_is_one_error(self, session: Session) -> None:
        Path("empty").mkdir()
        with pytest.raises(DataError, match="this folder has no record files"):
            check_data(session, "empty", None, as_json=False)


class TestSplitting:
    def test_files_of_any_format_are_split_and_counted(
        self, session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_records(Path("all/a.jsonl"), [*records(20), "{"])
        rows = "".join(f"ask {n},say {n}\n" for n in range(10))
        Path("all/b.csv").write_text("question,answer\n" + rows)
        assert split_data(session, ["all"], Path("out"), Shares(0.1, 0.2), 0) == 0
        assert capsys.readouterr().out.splitlines() == [
            "out/train.jsonl: 21 records",
            "out/valid.jsonl: 3 records",
            "out/test.jsonl: 6 records",
            "1 faulty line left out; see mlxft-tui check-data",
        ]
        assert check_data(session, "out", None, as_json=False) == 0

"""What `train` says before a run: as the Recipe screen does, for what is known."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mlxft.recipe import Recipe
from mlxft.runs.journal import JournalWriter
from mlxft_tui.cli import runs
from support.journal import data_prepared, trained_run
from support.records import SMOLLM2, records, write_records
from support.session import QuietSession


def test_few_and_contradictory_records_and_an_unusual_rate_are_named_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "refuse_if_training", lambda _: None)
    (first,) = records(1)
    assert isinstance(first, dict)
    monkeypatch.setattr(runs, "await_start", lambda *arguments: arguments[-1]())
    write_records(tmp_path / "data" / "train.jsonl", [*records(9), {**first, "completion": "?"}])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(SMOLLM2))
    session = QuietSession(tmp_path)
    recipe = Recipe(model="model", data="data", learning_rate=1e-2, iters=30)
    assert runs.train(session, recipe, as_json=True, detach=True) == 0
    assert capsys.readouterr().err == ""
    session.launched.clear()
    assert runs.train(session, recipe, as_json=False, detach=True) == 0
    said = capsys.readouterr().err
    assert "(1 of 10 records)" in said
    assert "(10 records)" in said
    assert "learning_rate" in said
    assert all(line.startswith("! ") for line in said.splitlines())
    (started,) = session.launched
    with closing(JournalWriter(started.journal_file)) as journal:
        for event in (
            *trained_run(started.recipe(), 3),
            msgspec.structs.replace(data_prepared(longest=30), train_records=10),
        ):
            journal.append(event)
    # Its journal knows the records, which aren't read again.
    (tmp_path / "data" / "train.jsonl").unlink()
    assert runs.resume(session, started, {}, as_json=False, detach=True) == 0
    said = capsys.readouterr().err
    assert "(10 records)" in said

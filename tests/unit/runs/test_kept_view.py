"""A long run's view is kept beside its journal and extended, and never differs from the journal."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from pathlib import Path

import pytest

from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs import kept_view
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalReader, JournalWriter
from mlxft.runs.kept_view import KEPT_NAME, compared_run, compared_view
from mlxft.runs.view import RunView, fold
from support.journal import ended, trained_run, write_run

RECIPE = Recipe(iters=40)


@pytest.fixture(autouse=True)
def every_journal_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_view, "LEAST_BYTES", 1)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that was validated and answered its sample prompt."""
    sample = ev.SampleAnswered(step=20, prompt="Who?", text="Nobody.", tokens=3, seconds=1.0)
    return write_run(tmp_path / "adapters", RECIPE, [*trained_run(RECIPE, 25), sample])


def append(run: RunDirectory, events: list[AnyEvent]) -> None:
    """What another session writes."""
    journal = JournalWriter(run.journal_file, clock=lambda: 1.7e9)
    for event in events:
        journal.append(event)
    journal.close()


def of_journal(run: RunDirectory) -> RunView:
    """The view of the whole journal, without what isn't kept."""
    view = reduce(fold, JournalReader(run.journal_file).batches(), RunView())
    return replace(view, log=(), awaited_since=None)


def seen(run: RunDirectory) -> RunView:
    """The view as it is read from what is kept."""
    assert (run.path / KEPT_NAME).is_file()
    return replace(compared_view(run), awaited_since=None)


def test_what_is_kept_is_extended_by_what_was_appended(run: RunDirectory) -> None:
    compared_view(run)
    assert seen(run) == of_journal(run)
    # A resume goes back to the checkpoint of step 20.
    append(run, [*trained_run(RECIPE, 20, start=20), ended(40)])
    assert seen(run) == of_journal(run)
    assert seen(run).steps.count == 40
    found = compared_run(run)
    assert (found.state, found.recipe.iters, len(found.view.samples)) == ("finished", 40, 1)


def test_a_replaced_journal_and_a_damaged_file_are_read_again(run: RunDirectory) -> None:
    compared_view(run)
    kept = run.path / KEPT_NAME
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-9], b"[]"):
        kept.write_bytes(damaged)
        assert compared_view(run).steps.count == 25
    run.journal_file.unlink()
    append(run, trained_run(RECIPE, 3))
    assert compared_view(run).steps.count == 3


def test_a_folder_that_cannot_be_written_is_read_each_time(run: RunDirectory) -> None:
    (run.path / f".{KEPT_NAME}.new").mkdir()
    assert compared_view(run).steps.count == 25
    assert not (run.path / KEPT_NAME).exists()

"""The table of runs says what the views of the runs say, whenever their journals are read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.comparison.labels import change_labels, read_labels, with_tags
from mlxft.comparison.summary import Summary, SummaryReader
from mlxft.comparison.table import RunTable, row_of, summaries_file
from mlxft.errors import RunError
from mlxft.recipe import PARAMETERS, Recipe
from mlxft.runs import events as ev
from mlxft.runs.followed import read_run
from mlxft.runs.view import RunView, fold, tokens_per_second
from support.journal import (
    RUN_RECIPE,
    backend,
    data_prepared,
    ended,
    finished,
    preparation,
    trained_run,
    training,
    write_run,
)

SLOWER = recipes.replace(recipes.replace(RUN_RECIPE, "learning_rate", 1e-5), "seed", 3)


def resumed_run() -> list[ev.AnyEvent]:
    """A run that was stopped, resumed from an earlier step with another rate, and finished."""
    stopped = [*preparation(), *training(37), ended(37, "stopped")]
    again = [*trained_run(SLOWER, 24, start=20), backend(), data_prepared(90)]
    return [*stopped, *again, ev.RunPaused(step=44), finished()]


def test_a_summary_is_what_the_view_shows_after_every_event(tmp_path: Path) -> None:
    run = write_run(tmp_path, RUN_RECIPE, resumed_run())
    lines = run.journal_file.read_bytes().splitlines(keepends=True)
    run.journal_file.write_bytes(b"")
    following, view = SummaryReader(run.journal_file), RunView()
    for line in lines:
        with run.journal_file.open("ab") as journal:
            journal.write(line)
        event = ev.decode(line)
        assert event is not None
        view = fold(view, [event])
        at_once = SummaryReader(run.journal_file).read()
        assert following.read() == at_once
        agrees(at_once, view)


def agrees(found: Summary, view: RunView) -> None:
    """Compare a summary with the view of the same events."""
    best, ending = view.best_validation, view.ending
    latest = view.validations[-1] if view.validations else None
    ended = ending if isinstance(ending, ev.RunFinished) else None
    assert found.loss == pytest.approx(view.loss)
    assert found.tokens_per_second == pytest.approx(
        ended.tokens_per_second if ended else tokens_per_second(view)
    )
    assert found.recipe is not None
    shown = {key: found.recipe.get(key, each.default) for key, each in PARAMETERS.items()}
    recipe = recipes.from_run(view.started.recipe) if view.started else Recipe()
    assert shown == {key: recipes.get(recipe, key) for key in PARAMETERS}
    assert (found.step, found.iters, found.paused, found.last_time) == (
        view.step,
        view.iters,
        view.paused,
        view.last_time,
    )
    assert found.peak_memory == (ended.peak_memory if ended else view.peak_memory)
    assert found.validation_loss == (latest.loss if latest else None)
    assert found.baseline_loss == (view.baseline.loss if view.baseline else None)
    assert found.best_validation_loss == (best.loss if best else None)
    assert found.best_validation_step == (best.step if best else None)


def names(rows: Sequence[object] | None) -> list[str]:
    return [row.run for row in rows or ()]  # type: ignore[attr-defined]


class TestTable:
    def test_runs_come_grow_and_go(self, tmp_path: Path) -> None:
        table = RunTable(tmp_path)
        nothing = table.poll()
        assert nothing == ()
        first = write_run(tmp_path, RUN_RECIPE, trained_run(RUN_RECIPE, 3))
        second = write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 30), ended(30)])
        rows = table.poll(nothing)
        assert rows is not None
        before = {row.directory: row for row in rows}
        assert table.poll(rows) is None
        with first.journal_file.open("ab") as journal:
            journal.write(ev.encode(ended(3)) + b"\n")
        after = {row.directory: row for row in table.poll(rows) or ()}
        assert (before[first].state, after[first].state) == ("lost", "finished")
        assert after[second] is before[second]
        shutil.rmtree(first.path)
        assert names(table.poll()) == [second.name]

    def test_a_run_deleted_during_a_poll_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone, there = (
            write_run(tmp_path, RUN_RECIPE, trained_run(RUN_RECIPE, 1)) for _ in range(2)
        )
        read = SummaryReader.read

        def deleting(reader: SummaryReader) -> Summary:
            shutil.rmtree(gone.path, ignore_errors=True)
            return read(reader)

        monkeypatch.setattr(SummaryReader, "read", deleting)
        assert names(RunTable(tmp_path).poll()) == [there.name]

    def test_live_and_pinned_ones_come_first_then_the_newest(self, tmp_path: Path) -> None:
        runs = [write_run(tmp_path, RUN_RECIPE, trained_run(RUN_RECIPE, 1)) for _ in range(4)]
        for age, run in enumerate(runs):
            os.utime(run.journal_file, (1000 + age, 1000 + age))
        change_labels(runs[1], lambda labels: msgspec.structs.replace(labels, pinned=True))
        with runs[0].locked():
            rows = RunTable(tmp_path).poll()
        assert names(rows) == [runs[at].name for at in (1, 0, 3, 2)]

    def test_a_cached_summary_counts_only_for_the_journal_it_was_read_from(
        self, tmp_path: Path
    ) -> None:
        run = write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 30), ended(30)])
        (fresh,) = RunTable(tmp_path).poll() or ()
        (cached,) = RunTable(tmp_path).poll() or ()
        assert cached.summary == fresh.summary == row_of(run).summary
        assert cached.value("learning_rate") == RUN_RECIPE.learning_rate
        with run.journal_file.open("ab") as journal:
            journal.write(ev.encode(trained_run(SLOWER, 1, start=30)[0]) + b"\n")
        (grown,) = RunTable(tmp_path).poll() or ()
        assert grown.value("learning_rate") == SLOWER.learning_rate
        cache = summaries_file(tmp_path)
        for spoilt in (b"", cache.read_bytes()[:-9], b"\xff" * 90):
            cache.write_bytes(spoilt)
            (again,) = RunTable(tmp_path).poll() or ()
            assert again.summary == grown.summary

    def test_an_impatient_poll_leaves_the_oldest_to_the_next(self, tmp_path: Path) -> None:
        runs = [write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 1)]) for _ in range(3)]
        table = RunTable(tmp_path)
        few = table.poll(patience=0)
        assert len(few or ()) + table.unread == len(runs)
        assert len(table.poll() or ()) == len(runs)
        assert table.unread == 0


class TestLabels:
    def test_they_are_kept_and_shown(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 3), ended(3)])
        table = RunTable(tmp_path)
        rows = table.poll()
        change_labels(run, lambda labels: with_tags(labels, ("good", "good", " for me ")))
        (row,) = table.poll(rows) or ()
        assert row.labels.tags == ("good", "for me")
        with pytest.raises(RunError, match="can't be a tag"):
            change_labels(run, lambda labels: with_tags(labels, ("a,b",)))

    @pytest.mark.parametrize("foreign", [b"", b"{", b"[1]", b'{"tags": 3}', b"\xff\xfe"])
    def test_a_foreign_file_is_no_crash_and_is_not_replaced(
        self, tmp_path: Path, foreign: bytes
    ) -> None:
        run = write_run(tmp_path, RUN_RECIPE, [])
        (run.path / "labels.json").write_bytes(foreign)
        assert read_labels(run).tags == ()
        with pytest.raises(RunError, match="doesn't hold labels"):
            change_labels(run, lambda labels: with_tags(labels, ("good",)))
        assert (run.path / "labels.json").read_bytes() == foreign


def test_a_run_that_never_began_has_the_recipe_of_its_file(tmp_path: Path) -> None:
    run = write_run(tmp_path, SLOWER, [])
    assert row_of(run).value("seed") == 3
    assert row_of(run).state == read_run(run).state == "lost"


def test_an_impossible_value_in_a_journal_takes_down_no_table(tmp_path: Path) -> None:
    run = write_run(tmp_path, RUN_RECIPE, [*trained_run(RUN_RECIPE, 2), ended(2)])
    lines = run.journal_file.read_bytes().splitlines(keepends=True)
    step = next(each for each in lines if b'"event":"step_finished"' in each)
    for number in (b"9" * 20, b"9" * 400):
        odd = step.replace(b'"step":1,', b'"step":' + number + b",")
        assert odd != step
        run.journal_file.write_bytes(b"".join([*lines[:-1], odd, lines[-1]]))
        (row,) = RunTable(tmp_path).poll() or ()
        assert (row.summary.step, row.state) == (2, "finished")

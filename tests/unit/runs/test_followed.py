"""Runs followed through their journals, and the list of all runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.errors import RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun, Follower, has_failed_to_start, read_run
from mlxft.runs.history import History, find
from mlxft.runs.journal import JournalWriter
from mlxft_tui.session import Session
from support.journal import ended, trained_run, write_run

RECIPE = Recipe(model="models/small", iters=100)


class TestFollower:
    def test_a_poll_without_news_returns_none(self, tmp_path: Path) -> None:
        follower = Follower(write_run(tmp_path, RECIPE, [*trained_run(RECIPE, 3), ended(3)]))
        first = follower.poll()
        assert first is not None
        assert (first.state, first.view.step, first.recipe) == ("finished", 3, RECIPE)
        assert follower.poll() is None

    def test_a_run_older_than_a_parameter_has_the_value_it_trained_with(
        self, tmp_path: Path
    ) -> None:
        run = write_run(tmp_path, RECIPE, [*trained_run(RECIPE, 3), ended(3)])
        recorded = '"grad_accumulation_by":"tokens",'
        text = run.journal_file.read_text()
        assert recorded in text
        run.journal_file.write_text(text.replace(recorded, ""))
        assert read_run(run).recipe.grad_accumulation_by == "steps"

    def test_a_run_is_lost_once_its_lock_is_free(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, trained_run(RECIPE, 3))
        follower = Follower(run)
        with run.locked():
            live = follower.poll()
        assert live is not None
        assert live.live
        lost = follower.poll()
        assert lost is not None
        assert (lost.state, lost.died_of) == ("lost", None)

    def test_a_lost_runs_log_may_say_why(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [])
        words = "libc++abi: terminating: [METAL] Command buffer execution failed: Impacting "
        run.log_file.write_text("x" * 10_000 + words + "Interactivity (0000000e)\n")
        lost = Follower(run, clock=lambda: time.time() + 3600).poll()
        assert lost is not None
        assert (lost.state, lost.died_of) == ("lost", "gpu_watchdog")

    def test_a_run_whose_engine_never_started_is_lost_after_a_while(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [])
        now = time.time()
        starting = Follower(run, clock=lambda: now).poll()
        assert starting is not None
        assert starting.state == "starting"
        lost = Follower(run, clock=lambda: now + 3600).poll()
        assert lost is not None
        assert lost.state == "lost"

    def test_a_new_run_of_the_same_name_replaces_the_deleted_one(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [*trained_run(RECIPE, 3), ended(3)])
        follower = Follower(run)
        follower.poll()
        shutil.rmtree(run.path)
        other = Recipe(model="models/other", iters=50)
        again = write_run(tmp_path, other, [*trained_run(other, 9), ended(9)])
        assert again.path == run.path
        seen = follower.poll()
        assert seen is not None
        assert (seen.recipe, seen.view.step, seen.view.iters) == (other, 9, 50)
        assert list(seen.view.steps.step) == list(range(1, 10))

    def test_a_resume_with_changes_shows_its_own_recipe(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [*trained_run(RECIPE, 3), ended(3, "stopped")])
        follower = Follower(run)
        follower.poll()
        slower = recipes.replace(RECIPE, "learning_rate", 1e-5)
        append(run, trained_run(slower, 2, start=3))
        resumed = follower.poll()
        assert resumed is not None
        assert resumed.recipe == slower

    def test_editing_the_recipe_file_does_not_change_the_shown_recipe(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [*trained_run(RECIPE, 3), ended(3)])
        run.write_recipe(Recipe(model="models/other"))
        assert read_run(run).recipe == RECIPE

    def test_an_engine_is_live_before_its_first_event(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [])
        with run.locked():
            starting = read_run(run)
        dead = read_run(run)
        assert (starting.state, starting.live) == ("starting", True)
        assert (dead.state, dead.live) == ("lost", False)


def append(run: RunDirectory, events: Iterable[ev.AnyEvent]) -> None:
    with contextlib.closing(JournalWriter(run.journal_file)) as journal:
        for event in events:
            journal.append(event)


class TestHistory:
    def test_runs_come_and_go(self, tmp_path: Path) -> None:
        history = History(tmp_path)
        nothing = history.poll()
        assert nothing == ()
        assert history.poll(nothing) is None
        run = write_run(tmp_path, RECIPE, [*trained_run(RECIPE, 3), ended(3)])
        found = history.poll()
        assert found is not None
        assert [each.directory for each in found] == [run]
        run.recipe_file.unlink()
        assert history.poll() == ()

    def test_a_poll_whose_result_was_dropped_hides_nothing(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [*trained_run(RECIPE, 3), ended(3)])
        history = History(tmp_path)
        history.poll()
        (found,) = history.poll() or ()
        assert found.directory == run

    def test_only_grown_journals_are_read_again(self, tmp_path: Path) -> None:
        runs = [write_run(tmp_path, RECIPE, trained_run(RECIPE, 3)) for _ in range(2)]
        history = History(tmp_path)
        before = {each.directory: each for each in history.poll() or ()}
        with runs[0].journal_file.open("ab") as journal:
            journal.write(ev.encode(ended(3)) + b"\n")
        after = {each.directory: each for each in history.poll() or ()}
        assert after[runs[0]].state == "finished"
        assert after[runs[1]] is before[runs[1]]

    def test_only_the_latest_runs_are_read(self, tmp_path: Path) -> None:
        runs = [write_run(tmp_path, RECIPE, trained_run(RECIPE, 1)) for _ in range(3)]
        for age, run in enumerate(runs):
            os.utime(run.journal_file, (1000 + age, 1000 + age))
        history = History(tmp_path, most=2)
        assert [each.directory for each in history.poll() or ()] == [runs[2], runs[1]]
        os.utime(runs[0].journal_file, (2000, 2000))
        assert [each.directory for each in history.poll() or ()] == [runs[0], runs[2]]

    def test_live_runs_come_first_then_the_last_written(self, tmp_path: Path) -> None:
        runs = [write_run(tmp_path, RECIPE, trained_run(RECIPE, 1)) for _ in range(3)]
        for age, run in enumerate(runs):
            os.utime(run.journal_file, (1000 + age, 1000 + age))
        with runs[0].locked():
            found = History(tmp_path).poll() or ()
        assert [each.directory for each in found] == [runs[0], runs[2], runs[1]]

    def test_an_unreadable_journal_hides_no_other_run(self, tmp_path: Path) -> None:
        spoilt, whole = (write_run(tmp_path, RECIPE, [ended(3)]) for _ in range(2))
        spoilt.journal_file.unlink()
        spoilt.journal_file.mkdir()
        found = History(tmp_path).poll() or ()
        assert {each.directory for each in found} == {spoilt, whole}
        with pytest.raises(StorageError, match="journal can't be written"):
            JournalWriter(spoilt.journal_file)

    def test_a_run_deleted_during_a_poll_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone, there = (write_run(tmp_path, RECIPE, trained_run(RECIPE, 1)) for _ in range(2))
        poll = Follower.poll

        def deleting(follower: Follower) -> FollowedRun | None:
            shutil.rmtree(gone.path, ignore_errors=True)
            return poll(follower)

        monkeypatch.setattr(Follower, "poll", deleting)
        assert [each.directory for each in History(tmp_path).poll() or ()] == [there]


class TestNewest:
    """The app, `runs`, `attach` and the Runs screen agree: the last write to a journal."""

    def test_a_resumed_run_is_the_newest(self, tmp_path: Path) -> None:
        root = tmp_path / "adapters"
        events = [*trained_run(RECIPE, 1), ended(1, "stopped")]
        first, second = (write_run(root, RECIPE, events) for _ in range(2))
        for run, at in ((first, 2000), (second, 1000)):
            os.utime(run.journal_file, (at, at))
        for run, at in ((first, 1), (second, 2)):
            os.utime(run.recipe_file, (at, at))
            os.utime(run.path, (at, at))
        session = Session(tmp_path)
        listed = [each.directory for each in session.history.poll() or ()]
        assert listed == session.runs() == [first, second]
        assert session.run_to_follow() == find(root, None) == first

    def test_a_live_run_is_shown_before_a_newer_one(self, tmp_path: Path) -> None:
        older, newer = (write_run(tmp_path, RECIPE, trained_run(RECIPE, 1)) for _ in range(2))
        os.utime(older.journal_file, (1000, 1000))
        assert find(tmp_path, None) == newer
        with older.locked():
            assert find(tmp_path, None) == older

    def test_a_missing_run_says_where_to_look(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="mlxft-tui runs"):
            find(tmp_path, "nothing")
        with pytest.raises(RunError, match="no run yet"):
            find(tmp_path, None)


def test_a_failed_start_stays_only_if_its_error_names_a_log_that_says_more(tmp_path: Path) -> None:
    message = "Rank 1 (mac-b) has ended with status 1 (engine.log may say why)."
    run = write_run(tmp_path, RECIPE, [ev.RunFailed(message=message, step=0, log="engine.log")])
    assert has_failed_to_start(read_run(run))
    run.log_file.write_text("mac-b: no such module")
    assert not has_failed_to_start(read_run(run))

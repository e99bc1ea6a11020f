"""Runs followed by their journals."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.followed import Follower
from mlxft.runs.history import History
from support.scripted import finished, training, write_run

RECIPE = Recipe(model="models/small", iters=100)


class TestFollower:
    def test_nothing_new_is_nothing(self, tmp_path: Path) -> None:
        follower = Follower(write_run(tmp_path, RECIPE, [*training(RECIPE, 3), finished(3)]))
        first = follower.look()
        assert first is not None
        assert (first.state, first.view.step, first.recipe) == ("finished", 3, RECIPE)
        assert follower.look() is None

    def test_the_lock_tells_the_living_from_the_lost(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, training(RECIPE, 3))
        follower = Follower(run)
        with run.locked():
            living = follower.look()
        assert living is not None
        assert living.live
        lost = follower.look()
        assert lost is not None
        assert lost.state == "lost"

    def test_a_run_whose_engine_never_came_is_lost_after_a_while(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [])
        now = time.time()
        starting = Follower(run, clock=lambda: now).look()
        assert starting is not None
        assert starting.state == "starting"
        lost = Follower(run, clock=lambda: now + 3600).look()
        assert lost is not None
        assert lost.state == "lost"

    def test_a_run_made_anew_under_the_same_name_is_another_one(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [*training(RECIPE, 3), finished(3)])
        follower = Follower(run)
        follower.look()
        shutil.rmtree(run.path)
        other = Recipe(model="models/other", iters=50)
        again = write_run(tmp_path, other, [*training(other, 9), finished(9)])
        assert again.path == run.path
        seen = follower.look()
        assert seen is not None
        assert (seen.recipe, seen.view.step, seen.view.iters) == (other, 9, 50)
        assert list(seen.view.steps.step) == list(range(1, 10))


class TestHistory:
    def test_runs_come_and_go(self, tmp_path: Path) -> None:
        history = History(tmp_path)
        nothing = history.look()
        assert nothing == ()
        assert history.look(nothing) is None
        run = write_run(tmp_path, RECIPE, [*training(RECIPE, 3), finished(3)])
        found = history.look()
        assert found is not None
        assert [each.directory for each in found] == [run]
        run.recipe_file.unlink()
        assert history.look() == ()

    def test_a_look_that_nobody_waited_for_hides_nothing(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, RECIPE, [*training(RECIPE, 3), finished(3)])
        history = History(tmp_path)
        history.look()
        (found,) = history.look() or ()
        assert found.directory == run

    def test_only_what_has_grown_is_read_again(self, tmp_path: Path) -> None:
        runs = [write_run(tmp_path, RECIPE, training(RECIPE, 3)) for _ in range(2)]
        history = History(tmp_path)
        before = {each.directory: each for each in history.look() or ()}
        with runs[0].journal_file.open("ab") as journal:
            journal.write(ev.encode(finished(3)) + b"\n")
        after = {each.directory: each for each in history.look() or ()}
        assert after[runs[0]].state == "finished"
        assert after[runs[1]] is before[runs[1]]

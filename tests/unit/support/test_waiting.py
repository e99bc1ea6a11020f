"""How tests and benchmarks wait for a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from support.journal import trained_run, write_run
from support.training import RunEndedError, wait_for_first_step


class TestFirstStep:
    def test_a_run_that_fails_before_it_ends_the_wait_with_its_words(self, tmp_path: Path) -> None:
        failed = ev.RunFailed(message="demo: its model is not installed.", step=0, log="engine.log")
        run = write_run(tmp_path, Recipe(), [*trained_run(Recipe(), 0), failed])
        with pytest.raises(RunEndedError, match="its model is not installed"):
            wait_for_first_step(run)

    def test_one_that_was_killed_names_its_log(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, Recipe(), trained_run(Recipe(), 0))
        with pytest.raises(RunEndedError, match=r"engine\.log"):
            wait_for_first_step(run)

    def test_a_step_ends_it(self, tmp_path: Path) -> None:
        wait_for_first_step(write_run(tmp_path, Recipe(), trained_run(Recipe(), 1)))

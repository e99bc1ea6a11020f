"""Runs that meet an accident end as if there had been none; the benchmark has all kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest

from mlxft import recipe as recipes
from mlxft.queue.store import own_store
from mlxft.runs import events as ev
from mlxft.runs.directory import create
from mlxft.runs.followed import read_run
from support.accidents import ACCIDENTS, Scene, stray_processes, write_clock
from support.fuzzing import fuzz
from support.project import Project, events_of
from support.queued_runs import end_queue
from support.training import SETTINGS, undisturbed, wait_for_first_step

SHORTER = "iters=40"

KINDS = list(ACCIDENTS)

SHUFFLED = Random(22).sample(KINDS, len(KINDS))

PAIRS = list(zip(SHUFFLED, SHUFFLED[4:] + SHUFFLED[:4], strict=True))
"""Each kind comes first once and second once."""


@pytest.fixture(scope="module")
def scene(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A queue of its own and a clock that may jump, and the adapter that every run should have."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in write_clock(tmp_path_factory.mktemp("clock") / "python").items():
            patch.setenv(name, value)
        yield Scene(project, *undisturbed(project, SHORTER), (*SETTINGS, SHORTER))
        strays = stray_processes()
        end_queue(own_store())
        assert strays == []


def test_an_engine_trains_though_its_starter_was_killed(project: Project) -> None:
    """Nobody reads that it is ready."""
    recipe = recipes.apply_settings(project.recipe, ["iters=2"])
    run = create(project.folder / "adapters", recipe, "orphan")
    receive, send = os.pipe()
    os.close(receive)
    command = [sys.executable, "-P", "-m", "mlxft.engine", "train", str(run.path)]
    subprocess.run([*command, f"--ready-fd={send}"], pass_fds=(send,), timeout=60, check=True)
    os.close(send)
    assert read_run(run).state == "finished"


def test_no_request_stops_a_run(project: Project) -> None:
    run = project.start("val_batches=2", "steps_per_eval=1000000")
    try:
        wait_for_first_step(run, 0.02)
        found = fuzz(run, seed=0, count=150)
        assert (found.still_trains, found.unanswered) == (True, 0)
        assert min(found.answered, found.refused) > 10
        assert found.growth < 200_000_000
        warnings = [each.message for each in events_of(run) if isinstance(each, ev.Warned)]
        assert any("learning rate is unchanged" in each for each in warnings)
    finally:
        project.end_engines()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_run_ends_with_the_adapter_of_an_undisturbed_one(
    scene: Scene, first: str, second: str
) -> None:
    survivor = scene.suffer(Random(first), first, second)
    assert survivor.is_right
    # Whoever ends a run on purpose, or starts it beside the queue, resumes it.
    manual = {"engine terminated", "two starters"} & {first, second}
    assert survivor.resumed_manually <= len(manual)

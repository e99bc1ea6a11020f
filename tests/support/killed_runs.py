"""Runs that are killed at some moment and resumed, beside one that nobody disturbs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mlxft.engine.launch import launch_training
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from support.project import Project, events_of
from support.waiting import eventually, wait_for_first_step

SETTINGS = (
    "iters=60",
    "batch_size=2",
    "grad_accumulation_steps=3",
    "lora_parameters.dropout=0.1",
    "learning_rate=0.001",
    "lr_schedule.name=cosine_decay",
    "lr_schedule.arguments=[0.001, 20]",
    "lr_schedule.warmup=4",
    "val_batches=-1",
    "steps_per_eval=10",
    "save_every=4",
    "optimizer=adamw",
)
"""All that an exact resume has to carry over, and many checkpoints to be killed in."""


@dataclass(frozen=True)
class Killed:
    """Where a run was killed, and what became of it."""

    step: int
    """The last step in its journal."""
    saving: bool
    """Whether a checkpoint was being written."""
    resumed_from: int
    identical: bool


def undisturbed(project: Project) -> tuple[bytes, float]:
    """The adapter of a run that trains to its end, and the seconds from its first step to that."""
    run = project.start(*SETTINGS)
    _ended(run)
    times = [each.time for each in events_of(run) if isinstance(each, ev.StepFinished)]
    return run.adapter_file.read_bytes(), times[-1] - times[0]


def killed(project: Project, random: Random, expected: bytes, seconds: float) -> Killed | None:
    """A run that is killed and resumed; None if it came to its end before.

    Every other one is killed while it writes a checkpoint, the rest at any time within `seconds`
    of its first step.
    """
    run = project.start(*SETTINGS)
    wait_for_first_step(run, 0.02)
    if random.random() < 0.5:
        _wait_for_saving(run, random)
    else:
        time.sleep(random.uniform(0, seconds))
    # It may have come to its end meanwhile.
    if process := lock.holder(run.lock_file):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    eventually(lambda: not run.is_live())
    before = events_of(run)
    if any(isinstance(each, ev.RunFinished) for each in before):
        return None
    step, saving = _last_step(run), bool(_unfinished(run))
    launch_training(run)
    _ended(run)
    starts = [each.start_step for each in events_of(run) if isinstance(each, ev.RunStarted)]
    identical = run.adapter_file.read_bytes() == expected
    return Killed(step, saving, starts[-1], identical)


def _wait_for_saving(run: RunDirectory, random: Random) -> None:
    """Until the run writes one of its checkpoints, and a moment more."""
    for _ in range(random.randrange(1, 12)):
        _spin(lambda: not _unfinished(run) or not run.is_live())
        _spin(lambda: bool(_unfinished(run)) or not run.is_live())
    time.sleep(random.uniform(0, 0.004))


def _spin(look: Callable[[], bool]) -> None:
    """Wait for something that lasts no longer than a few milliseconds."""
    end = time.monotonic() + 60
    while not look() and time.monotonic() < end:
        time.sleep(0.0002)


def _unfinished(run: RunDirectory) -> list[Path]:
    return list(run.checkpoints.glob(".*.new"))


def _last_step(run: RunDirectory) -> int:
    steps = [each.step for each in events_of(run) if isinstance(each, ev.StepFinished)]
    return steps[-1] if steps else 0


def _ended(run: RunDirectory) -> None:
    eventually(lambda: not run.is_live(), 120)
    last = events_of(run)[-1]
    assert isinstance(last, ev.RunFinished), last

"""Runs of the self-test: engine processes that train, are killed and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from mlxft import recipe as recipes
from mlxft.doctor.self_test.child import Measuring
from mlxft.doctor.self_test.watch import Watch
from mlxft.engine.launch import launch_training
from mlxft.errors import StorageError
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.events import AnyEvent
from mlxft.runs.journal import JournalReader

END_SECONDS: Final = 150.0
"""How long a run may take: on CUDA its first step may have to compile all kernels."""

KILL_SECONDS: Final = 10.0
"""How long a killed engine may take to be gone."""

EXACT: Final = (
    "batch_size=2",
    "num_layers=2",
    "max_seq_length=64",
    "val_batches=0",
    "grad_accumulation_steps=3",
    "lora_parameters.dropout=0.1",
    "learning_rate=0.001",
    "lr_schedule.name=cosine_decay",
    "lr_schedule.warmup=4",
    "optimizer=adamw",
    "steps_per_report=5",
    "prevent_sleep=false",
)
"""What an exact resume has to carry over."""


@dataclass(frozen=True)
class Bench:
    """A folder with runs whose engines end with the self-test."""

    folder: Path
    watch: Watch

    @cached_property
    def measuring(self) -> Measuring:
        """The process that measures where no run is needed."""
        return Measuring(self.watch)

    def write_data(self) -> Path:
        """A few short records."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        lines = [
            json.dumps({"prompt": f"Turn on lamp {n}.", "completion": f"Lamp {n} is on."})
            for n in range(8)
        ]
        (data / "train.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return data

    def start(self, name: str, recipe: Recipe, *settings: str) -> RunDirectory:
        """Start a run. Raises an `MlxftError`."""
        recipe = recipes.apply_settings(recipe, settings)
        run = create(self.folder / "adapters", recipe, name)
        self.launch(run)
        return run

    def launch(self, run: RunDirectory) -> None:
        """Start or resume a run that leaves nothing elsewhere.

        Its peak is kept in this folder, not with those of real runs, and nobody is notified of it.
        """
        self.watch.need_time()
        # A GPU may serve one process alone.
        self.measuring.end()
        settings = self.folder / "settings"
        launch_training(
            run, environment={"MLXFT_PEAKS": str(self.peaks), "MLXFT_CONFIG": str(settings)}
        )

    @property
    def peaks(self) -> Path:
        """The peaks of these runs."""
        return self.folder / "peaks.jsonl"

    def has_begun(self, run: RunDirectory) -> bool:
        """Wait for the run's first step; whether it came."""
        self.watch.wait(lambda: bool(losses(run)) or not run.is_live(), END_SECONDS)
        return bool(losses(run))

    def stop_when_sampled(self, run: RunDirectory, steps: int) -> None:
        """Stop the run once so many steps are trained and the machine was sampled after one."""

        def sampled() -> bool:
            enough = len(losses(run)) >= steps and any(samples(run))
            return enough or not run.is_live()

        self.watch.wait(sampled, END_SECONDS, pause=0.2)
        if process := run.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        self.has_ended(run)

    def has_ended(self, run: RunDirectory) -> bool:
        """Wait for the run's end; whether it finished."""
        self.watch.wait(lambda: not run.is_live(), END_SECONDS, pause=0.1)
        return any(isinstance(each, ev.RunFinished) for each in events_of(run)[-1:])

    def break_after_saves(self, run: RunDirectory, saves: int, number: signal.Signals) -> bool:
        """Send a signal to the engine once the run has saved so often; whether it came before the
        run's end."""

        def saved() -> bool:
            # A journal would have to be read again each time, and this must see it quickly.
            return len(list(run.checkpoints.glob("[0-9]*"))) >= saves or not run.is_live()

        self.watch.wait(saved, END_SECONDS)
        process = run.process if run.is_live() else None
        if process is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        self.watch.wait(lambda: not run.is_live(), END_SECONDS)
        last = events_of(run)[-1]
        return not (isinstance(last, ev.RunFinished) and last.reason == "completed")

    def end(self) -> None:
        """Kill every engine that is still running, and what measures."""
        self.measuring.end()
        for path in (self.folder / "adapters").glob("*/lock"):
            run = RunDirectory(path.parent)
            if run.is_live() and (process := run.process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                # It has its locks, the machine's too, until it is gone.
                with (
                    contextlib.suppress(StorageError),
                    lock.taken(run.lock_file, patience=KILL_SECONDS),
                ):
                    pass


def events_of(run: RunDirectory) -> list[AnyEvent]:
    """The run's journal as it is now."""
    return JournalReader(run.journal_file).read()


def start_steps(run: RunDirectory) -> list[int]:
    """The steps that the run's sessions have started from."""
    return [each.start_step for each in events_of(run) if isinstance(each, ev.RunStarted)]


def losses(run: RunDirectory) -> list[float]:
    """The losses of the run's steps."""
    return [each.loss for each in events_of(run) if isinstance(each, ev.StepFinished)]


def step_seconds(run: RunDirectory) -> list[float]:
    """The seconds of the run's steps."""
    return [each.seconds for each in events_of(run) if isinstance(each, ev.StepFinished)]


def samples(run: RunDirectory) -> Iterator[ev.MachineSampled]:
    """The run's samples of the machine after its first step, which show MLX's memory."""
    trains = False
    for each in events_of(run):
        trains = trains or isinstance(each, ev.StepFinished)
        if trains and isinstance(each, ev.MachineSampled) and each.active_memory:
            yield each


def tear_newest_checkpoint(run: RunDirectory) -> None:
    """Cut the newest checkpoint's state in half, as a full disk or a lost write may."""
    folders = sorted(path for path in run.checkpoints.iterdir() if path.name.isdecimal())
    file = folders[-1] / "training.safetensors"
    os.truncate(file, file.stat().st_size // 2)

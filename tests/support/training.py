"""Runs trained in the test's own process, and runs that are killed and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from mlxft import recipe as recipes
from mlxft.compute.generation.answers import Listener
from mlxft.compute.training.session import TrainingSession
from mlxft.conversation.messages import Question
from mlxft.engine.launch import launch_training
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import EarlierSessions, JournalReader
from support.project import Project, events_of, eventually


class RunEndedError(Exception):
    """A run ended instead of training; the message is its own."""


def wait_for_first_step(run: RunDirectory, pause: float = 0.2) -> None:
    """Wait until a run that was launched has trained a step.

    Raises `RunEndedError` where it ends before.
    """
    while True:
        # Asked first, because an engine writes its last event before it lets go of the run.
        live = run.is_live()
        events = JournalReader(run.journal_file).read()
        if any(isinstance(each, ev.StepFinished) for each in events):
            return
        if not live:
            words = [each.message for each in events if isinstance(each, ev.RunFailed)]
            raise RunEndedError(words[-1] if words else f"{run.log_file} may say why it ended.")
        time.sleep(pause)


E = TypeVar("E")


Visitor = Callable[[TrainingSession], None]


@dataclass
class Run:
    """A run directory that is trained in sessions, and the events of the last one."""

    directory: RunDirectory
    recipe: Recipe
    events: list[Any] = field(default_factory=list)
    earlier: EarlierSessions = field(default_factory=EarlierSessions)
    """What the journal would have of the sessions before the last one."""

    def session(
        self,
        at_safe_point: Visitor | None = None,
        is_called: Callable[[], bool] = lambda: False,
    ) -> Any:
        """A session that calls back at each safe point."""
        self.earlier.add(self.events)
        self.events = []

        def visit() -> None:
            if at_safe_point:
                at_safe_point(session)

        session = TrainingSession(
            self.recipe,
            self.directory,
            self.events.append,
            at_safe_point=visit,
            is_called=is_called,
            earlier=self.earlier,
        )
        self.events.append(self._started(session.start_step))
        return session

    def _started(self, step: int) -> ev.RunStarted:
        recipe = recipes.to_mapping(self.recipe)
        return ev.RunStarted(
            run="run", pid=1, host="", recipe=recipe, iters=self.recipe.iters, start_step=step
        )

    def train(
        self,
        at_safe_point: Visitor | None = None,
        is_called: Callable[[], bool] = lambda: False,
    ) -> ev.RunFinished:
        """Prepare and run one session to its end."""
        session = self.session(at_safe_point, is_called)
        session.prepare()
        finished = session.run()
        assert isinstance(finished, ev.RunFinished)
        return finished

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.of(ev.StepFinished)]

    def adapter(self) -> bytes:
        return self.directory.adapter_file.read_bytes()


@cache
def _kept() -> tuple[TemporaryDirectory[str], dict[str, list[Any]]]:
    """The folders of runs that were trained in this process, and their events."""
    return TemporaryDirectory(), {}


def trained_once(run: Run) -> Run:
    """Train a run, or take over what an earlier one of the same recipe has become."""
    folder, events = _kept()
    key = sha256(repr(run.recipe).encode()).hexdigest()
    copy = Path(folder.name) / key
    if key not in events:
        run.train()
        shutil.copytree(run.directory.path, copy)
        events[key] = run.events
    shutil.copytree(copy, run.directory.path, dirs_exist_ok=True)
    run.events = list(events[key])
    return run


def ask_session(session: TrainingSession, question: Question) -> str:
    """The text that the model in memory answers."""
    listener = Listener(lambda _: None, lambda: False)
    return session.answer_together([(question, None, listener)])[0].text


MakeRun = Callable[..., Run]
"""Makes a run with ``key=value`` settings over the usual recipe."""


def stop_after(step: int) -> Visitor:
    """A safe-point visitor that stops the run once the step is done."""

    def visit(session: TrainingSession) -> None:
        if session.step >= step:
            session.request_stop()

    return visit


def write_records(folder: Path, *records: dict[str, Any]) -> Path:
    """A data folder with these training records."""
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return folder


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
    "lora_parameters.use_rslora=true",
    "loraplus_lr_ratio=4",
    "neftune_noise_alpha=5",
    "train_embeddings=<|im_start|>,<|im_end|>",
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


def undisturbed(project: Project, *more: str) -> tuple[bytes, float]:
    """The adapter of a run that trains to its end, and the seconds from its first step to that."""
    run = project.start(*SETTINGS, *more)
    _ended(run)
    times = [each.time for each in events_of(run) if isinstance(each, ev.StepFinished)]
    return run.adapter_file.read_bytes(), times[-1] - times[0]


def killed(
    project: Project, random: Random, expected: bytes, seconds: float, *more: str
) -> Killed | None:
    """A run that is killed and resumed, with `more` settings; None if it came to its end before.

    Every other one is killed while it writes a checkpoint, the rest at any time within `seconds`
    of its first step.
    """
    run = project.start(*SETTINGS, *more)
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

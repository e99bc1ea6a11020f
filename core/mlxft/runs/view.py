"""What a viewer shows of a run: the fold of its journal's events."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal

from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent

State = Literal["starting", "running", "paused", "finished", "stopped", "failed", "lost"]

RATE_WINDOW = 20
"""Steps over which speed and the estimate of the rest are taken."""


def _floats() -> array[float]:
    return array("d")


@dataclass(frozen=True)
class Steps:
    """Every trained step in order, as columns of equal length."""

    step: array[float] = field(default_factory=_floats)
    loss: array[float] = field(default_factory=_floats)
    tokens: array[float] = field(default_factory=_floats)
    seconds: array[float] = field(default_factory=_floats)
    learning_rate: array[float] = field(default_factory=_floats)

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class RunView:
    """A run as its journal tells it up to the last event read."""

    started: ev.RunStarted | None = None
    backend: ev.BackendReady | None = None
    model: ev.ModelLoaded | None = None
    data: ev.DataPrepared | None = None
    progress: ev.ProgressMade | None = None
    steps: Steps = field(default_factory=Steps)
    session_start: int = 0
    """Index in `steps` of the first step of this session; speeds never span a resume."""
    validations: tuple[ev.ValidationFinished, ...] = ()
    checkpoints: tuple[ev.CheckpointSaved, ...] = ()
    reports: tuple[ev.TrainReported, ...] = ()
    machine: ev.MachineSampled | None = None
    log: tuple[AnyEvent, ...] = ()
    """Events that make a line in the log, in order."""
    ending: ev.RunFinished | ev.RunFailed | None = None
    paused: bool = False
    step: int = 0
    last_step_time: float | None = None
    learning_rate: float | None = None
    """The rate of the next update, as far as it is known."""
    last_time: float | None = None

    @property
    def iters(self) -> int:
        """Steps of the whole run, 0 until it has started."""
        return self.started.iters if self.started else 0

    @property
    def best_validation(self) -> ev.ValidationFinished | None:
        """The validation with the lowest loss so far."""
        finite = [each for each in self.validations if math.isfinite(each.loss)]
        return min(finite, key=lambda each: each.loss, default=None)


_SILENT = (ev.StepFinished, ev.MachineSampled, ev.ProgressMade)
"""Events too many for a log line."""


def fold(view: RunView, events: Iterable[AnyEvent]) -> RunView:
    """The view after more events; the same events always give the same view."""
    return reduce(_fold_session, _sessions(events), view)


def _sessions(events: Iterable[AnyEvent]) -> list[list[AnyEvent]]:
    """The events cut before each start of an engine, since a resume rewinds the steps."""
    sessions: list[list[AnyEvent]] = []
    for event in events:
        if not sessions or isinstance(event, ev.RunStarted):
            sessions.append([])
        sessions[-1].append(event)
    return sessions


def _fold_session(view: RunView, batch: list[AnyEvent]) -> RunView:
    if isinstance(batch[0], ev.RunStarted):
        view = _restarted(view, batch[0])
    view = replace(
        view,
        steps=_with_steps(view.steps, batch),
        log=view.log + tuple(each for each in batch if not isinstance(each, _SILENT)),
        reports=view.reports + tuple(each for each in batch if isinstance(each, ev.TrainReported)),
        last_time=batch[-1].time,
    )
    return reduce(_apply, batch, view)


def _with_steps(steps: Steps, batch: list[AnyEvent]) -> Steps:
    new = [each for each in batch if isinstance(each, ev.StepFinished)]
    if not new:
        return steps
    return Steps(
        steps.step + array("d", (each.step for each in new)),
        steps.loss + array("d", (each.loss for each in new)),
        steps.tokens + array("d", (each.tokens for each in new)),
        steps.seconds + array("d", (each.seconds for each in new)),
        steps.learning_rate + array("d", (each.learning_rate for each in new)),
    )


def _apply(view: RunView, event: AnyEvent) -> RunView:
    match event:
        case ev.BackendReady():
            return replace(view, backend=event)
        case ev.ProgressMade():
            return replace(view, progress=event)
        case ev.ModelLoaded():
            return replace(view, model=event, progress=None)
        case ev.DataPrepared():
            return replace(view, data=event, progress=None)
        case ev.StepFinished():
            return replace(
                view,
                step=event.step,
                last_step_time=event.time,
                learning_rate=event.learning_rate,
                progress=None,
            )
        case ev.LearningRateChanged():
            return replace(view, learning_rate=event.learning_rate)
        case ev.ValidationFinished():
            return replace(view, validations=(*view.validations, event), progress=None)
        case ev.CheckpointSaved():
            return replace(view, checkpoints=(*view.checkpoints, event), progress=None)
        case ev.RunPaused():
            return replace(view, paused=True)
        case ev.RunContinued():
            return replace(view, paused=False)
        case ev.MachineSampled():
            return replace(view, machine=event)
        case ev.RunFinished() | ev.RunFailed():
            return replace(view, ending=event, paused=False, progress=None)
        case _:
            return view


def _restarted(view: RunView, event: ev.RunStarted) -> RunView:
    """Drop what a resume trains again, so that each step is shown once."""
    keep = sum(1 for step in view.steps.step if step <= event.start_step)
    steps = view.steps
    if keep < len(steps) and event.start_step < steps.step[-1]:
        steps = Steps(
            *(
                column[:keep]
                for column in (
                    steps.step,
                    steps.loss,
                    steps.tokens,
                    steps.seconds,
                    steps.learning_rate,
                )
            )
        )
    return replace(
        view,
        started=event,
        steps=steps,
        session_start=len(steps),
        validations=tuple(each for each in view.validations if each.step <= event.start_step),
        reports=tuple(each for each in view.reports if each.step <= event.start_step),
        step=event.start_step,
        ending=None,
        paused=False,
        progress=None,
    )


def state(view: RunView, live: bool) -> State:
    """What the run is doing; `live` is whether an engine holds its lock."""
    match view.ending:
        case ev.RunFinished(reason="completed"):
            return "finished"
        case ev.RunFinished():
            return "stopped"
        case ev.RunFailed():
            return "failed"
    if not live:
        return "lost"
    if view.paused:
        return "paused"
    return "running" if len(view.steps) > view.session_start else "starting"


def tokens_per_second(view: RunView) -> float | None:
    """Trained tokens a second over the last steps of this session."""
    first = max(view.session_start, len(view.steps) - RATE_WINDOW)
    seconds = sum(view.steps.seconds[first:])
    return sum(view.steps.tokens[first:]) / seconds if seconds > 0 else None


def seconds_left(view: RunView) -> float | None:
    """Estimate of the rest from the last steps of this session; None before its first step."""
    first = max(view.session_start, len(view.steps) - RATE_WINDOW)
    durations = view.steps.seconds[first:]
    if not durations:
        return None
    return sum(durations) / len(durations) * max(0, view.iters - view.step)

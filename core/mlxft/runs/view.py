"""What a viewer shows of a run: the fold of its journal's events."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from statistics import median
from typing import Final, Literal, TypedDict, TypeVar

import msgspec

from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft.runs.steps import Steps

E = TypeVar("E", bound=AnyEvent)

State = Literal["starting", "running", "paused", "finished", "stopped", "failed", "lost"]
LIVE: Final[tuple[State, ...]] = ("starting", "running", "paused")
"""The states of a run that an engine holds."""

Ending = Literal["completed", "stopped", "early_stopped", "failed"]
"""How a session ended."""

RATE_WINDOW = 20
"""Latest steps that speed and time left are computed from."""

FORWARD_SHARE = 0.5
"""Rough share of the forward pass in a step: from a third to two thirds, where few blocks are
trained."""

LATE_FACTOR = 6
LATE_SECONDS = 20.0
"""A step is late after this many step times, and at least this many seconds."""

LOG_EVENTS = 2000
"""Latest log events kept in a view; the journal has all."""

KEPT_REPORTS = 1000
"""Latest reports kept in a view: a resume goes back by no more."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run's state after the events read so far."""

    started: ev.RunStarted | None = None
    backend: ev.BackendReady | None = None
    model: ev.ModelLoaded | None = None
    data: ev.DataPrepared | None = None
    progress: ev.ProgressMade | None = None
    steps: Steps = field(default_factory=Steps)
    session_start: int = 0
    """The step this session started from; speeds never span a resume."""
    validations: tuple[ev.ValidationFinished, ...] = ()
    """One for each validated step; that of step 0 is the baseline."""
    best_validation: ev.ValidationFinished | None = None
    """The validation with the lowest loss so far, except for the baseline."""
    checkpoints: tuple[ev.CheckpointSaved, ...] = ()
    samples: tuple[ev.SampleAnswered, ...] = ()
    rate_changes: tuple[ev.LearningRateChanged, ...] = ()
    """Manual changes of the learning rate."""
    reports: tuple[ev.TrainReported, ...] = ()
    """The latest reports, also of earlier sessions."""
    report: ev.TrainReported | None = None
    """The latest report of this session."""
    joined: ev.RanksJoined | None = None
    """The processes of the latest session that had several, and their link."""
    ranks: ev.RanksReported | None = None
    """What each of several processes has done, as of this session's latest report."""
    peak_memory: int | None = None
    """MLX's peak memory in this session as last reported, in bytes."""
    machine: ev.MachineSampled | None = None
    first_machine: ev.MachineSampled | None = None
    """This session's first sample of the machine, the baseline for later ones."""
    keeps_awake: bool = False
    """Whether the engine prevents the machine's sleep."""
    log: tuple[AnyEvent, ...] = ()
    """The latest events that have a line in the log, in order."""
    ending: ev.RunFinished | ev.RunFailed | None = None
    paused: bool = False
    answered: ev.ChatAnswered | None = None
    """The latest chat answer, which the run paused for."""
    step: int = 0
    awaited_since: float | None = None
    """When the next step became due: after the last step, a pause, or other work."""
    learning_rate: float | None = None
    """The rate of the next update, where known."""
    last_time: float | None = None

    @property
    def iters(self) -> int:
        """Steps of the whole run, 0 until it has started."""
        return self.started.iters if self.started else 0

    @property
    def baseline(self) -> ev.ValidationFinished | None:
        """The validation before the first step."""
        first = next(iter(self.validations), None)
        return first if first is not None and first.step == 0 else None

    @property
    def loss(self) -> float | None:
        """The training loss of the last report, as mlx-lm prints it: the mean of its steps.

        Before the first report it is the mean of the steps so far; None before the first step.
        """
        return self.reports[-1].loss if self.reports else self.steps.mean

    @property
    def preference(self) -> ev.Preference | None:
        """What the latest steps say of the preference on average; None with the loss sft."""
        steps = self.steps
        if not steps.accuracy:
            return None

        def mean(column: array[float]) -> float | None:
            latest = [each for each in column[-RATE_WINDOW:] if math.isfinite(each)]
            return math.fsum(latest) / len(latest) if latest else None

        return ev.Preference(
            chosen_reward=mean(steps.chosen_reward),
            rejected_reward=mean(steps.rejected_reward),
            margin=mean(steps.margin),
            accuracy=mean(steps.accuracy) or 0.0,
            chosen_logp=mean(steps.chosen_logp),
            rejected_logp=mean(steps.rejected_logp),
            kl=mean(steps.kl),
        )


_SILENT = (ev.StepFinished, ev.MachineSampled, ev.ProgressMade, ev.RanksReported)
"""Events too frequent for a log line."""


class _Changes(TypedDict, total=False):
    """The fields of a view that single events replace."""

    backend: ev.BackendReady
    model: ev.ModelLoaded
    data: ev.DataPrepared
    progress: ev.ProgressMade | None
    report: ev.TrainReported
    joined: ev.RanksJoined
    ranks: ev.RanksReported
    machine: ev.MachineSampled
    keeps_awake: bool
    ending: ev.RunFinished | ev.RunFailed
    paused: bool
    answered: ev.ChatAnswered
    step: int
    awaited_since: float
    learning_rate: float


def fold(view: RunView, events: Iterable[AnyEvent]) -> RunView:
    """The view after more events: a pure function, whatever the batches."""
    return reduce(_fold_session, _sessions(events), view)


def _sessions(events: Iterable[AnyEvent]) -> list[list[AnyEvent]]:
    """The events split before each `RunStarted`, since a resume rewinds the steps."""
    sessions: list[list[AnyEvent]] = []
    for event in events:
        if not sessions or isinstance(event, ev.RunStarted):
            sessions.append([])
        sessions[-1].append(event)
    return sessions


def _fold_session(view: RunView, batch: list[AnyEvent]) -> RunView:
    if isinstance(batch[0], ev.RunStarted):
        view = _restarted(view, batch[0])
    if isinstance(batch[-1], ev.RunFinished) and batch[-1].since_step is None:
        # Older journals summarise the last session only.
        batch = [*batch[:-1], msgspec.structs.replace(batch[-1], since_step=view.session_start)]
    steps, peak = _with_steps(view.steps, view.peak_memory, batch)
    logged = [each for each in batch if not isinstance(each, _SILENT)]
    validations = [each for each in logged if isinstance(each, ev.ValidationFinished)]
    reports = _more(view.reports, logged, ev.TrainReported)[-KEPT_REPORTS:]
    changes: _Changes = {}
    for event in batch:
        changes.update(_changes(event))
    return replace(
        view,
        steps=steps,
        peak_memory=peak,
        reports=reports,
        validations=_validated(view.validations, validations),
        best_validation=_best([view.best_validation, *validations]),
        checkpoints=_more(view.checkpoints, logged, ev.CheckpointSaved),
        samples=_more(view.samples, logged, ev.SampleAnswered),
        rate_changes=_more(view.rate_changes, logged, ev.LearningRateChanged),
        log=(*view.log, *logged)[-LOG_EVENTS:],
        first_machine=view.first_machine or _first(batch, ev.MachineSampled),
        last_time=batch[-1].time,
        **changes,
    )


def _best(
    validations: Iterable[ev.ValidationFinished | None],
) -> ev.ValidationFinished | None:
    """The first with the lowest finite loss, after a step at least."""
    found = (each for each in validations if each is not None and each.step)
    finite = [each for each in found if math.isfinite(each.loss)]
    return min(finite, key=lambda each: each.loss, default=None)


def _validated(
    before: tuple[ev.ValidationFinished, ...], found: Iterable[ev.ValidationFinished]
) -> tuple[ev.ValidationFinished, ...]:
    """The validations in step order; one that is repeated after a resume replaces the earlier."""
    validations = list(before)
    for each in found:
        while validations and validations[-1].step >= each.step:
            validations.pop()
        validations.append(each)
    return tuple(validations)


def _first(events: Iterable[AnyEvent], kind: type[E]) -> E | None:
    return next((each for each in events if isinstance(each, kind)), None)


def _more(before: tuple[E, ...], events: Sequence[AnyEvent], kind: type[E]) -> tuple[E, ...]:
    return before + tuple(each for each in events if isinstance(each, kind))


def _with_steps(steps: Steps, peak: int | None, batch: list[AnyEvent]) -> tuple[Steps, int | None]:
    """Steps with the batch's added, each with the peak memory last reported before it."""
    rows: list[tuple[float, ...]] = []
    for event in batch:
        if isinstance(event, ev.StepFinished):
            norm, loss = event.gradient_norm, event.loss
            rows.append(
                (
                    event.step,
                    loss,
                    loss if math.isfinite(loss) else math.nan,
                    event.tokens,
                    event.seconds,
                    event.learning_rate,
                    math.nan if norm is None else norm,
                    math.nan if peak is None else peak,
                    *_preference_columns(event.preference),
                )
            )
        elif isinstance(event, (ev.TrainReported, ev.MachineSampled)):
            peak = event.peak_memory if event.peak_memory is not None else peak
    if rows:
        steps = steps.added([array("d", column) for column in zip(*rows, strict=True)])
    return steps, peak


def _preference_columns(found: ev.Preference | None) -> tuple[float, ...]:
    """The values of a step's preference in the order of the columns; none with the loss sft."""
    if found is None:
        return ()
    values = (
        found.chosen_reward,
        found.rejected_reward,
        found.margin,
        found.accuracy,
        found.chosen_logp,
        found.rejected_logp,
        found.kl,
    )
    return tuple(math.nan if each is None else each for each in values)


def _changes(event: AnyEvent) -> _Changes:
    match event:
        case ev.StepFinished():
            return {
                "step": event.step,
                "awaited_since": event.time,
                "learning_rate": event.learning_rate,
                "progress": None,
            }
        case ev.MachineSampled():
            return {"machine": event}
        case ev.TrainReported():
            return {"report": event}
        case ev.RanksJoined():
            return {"joined": event}
        case ev.RanksReported():
            return {"ranks": event}
        case ev.ProgressMade():
            return {"progress": event}
        case ev.BackendReady():
            return {"backend": event}
        case ev.ModelLoaded():
            return {"model": event, "progress": None}
        case ev.DataPrepared():
            return {"data": event, "progress": None}
        case ev.LearningRateChanged():
            return {"learning_rate": event.learning_rate}
        case ev.ChatAnswered():
            return {"answered": event, "progress": None, "awaited_since": event.time}
        case (
            ev.ValidationFinished() | ev.CheckpointSaved() | ev.SampleAnswered() | ev.WorkSkipped()
        ):
            return {"progress": None, "awaited_since": event.time}
        case ev.SleepPrevented():
            return {"keeps_awake": True}
        case ev.RunPaused():
            return {"paused": True}
        case ev.RunContinued():
            return {"paused": False, "awaited_since": event.time}
        case ev.RunFinished() | ev.RunFailed():
            return {"ending": event, "paused": False, "progress": None, "keeps_awake": False}
        case _:
            return {}


def _restarted(view: RunView, event: ev.RunStarted) -> RunView:
    """Drop everything after the step that a resume starts from, so that no step appears twice."""
    start = event.start_step
    validations = tuple(each for each in view.validations if each.step <= start)
    return replace(
        view,
        started=event,
        steps=view.steps.until(start),
        session_start=start,
        validations=validations,
        best_validation=_best(validations),
        samples=tuple(each for each in view.samples if each.step <= start),
        rate_changes=tuple(each for each in view.rate_changes if each.step <= start),
        reports=tuple(each for each in view.reports if each.step <= start),
        report=None,
        ranks=None,
        peak_memory=None,
        first_machine=None,
        step=start,
        ending=None,
        paused=False,
        answered=None,
        progress=None,
        keeps_awake=False,
    )


def state(view: RunView, live: bool) -> State:
    """What the run is doing; `live` says whether an engine holds its lock."""
    ending: Ending | None = "failed" if view.ending else None
    if isinstance(view.ending, ev.RunFinished):
        ending = view.ending.reason
    return state_of(
        ending,
        live=live,
        paused=view.paused,
        has_trained=view.steps.count > view.session_start,
    )


def state_of(ending: Ending | None, *, live: bool, paused: bool, has_trained: bool) -> State:
    """What a run is doing whose latest session has ended, is paused, or has trained a step."""
    match ending:
        case "completed":
            return "finished"
        case "stopped" | "early_stopped":
            return "stopped"
        case "failed":
            return "failed"
    if not live:
        return "lost"
    if paused:
        return "paused"
    return "running" if has_trained else "starting"


def can_skip(view: RunView) -> bool:
    """Whether the run waits for a sample, or for the validation before its first step."""
    stage = view.progress.stage if view.progress else None
    return stage == "sampling" or (stage == "validating" and view.step == 0)


def recent(view: RunView, column: array[float]) -> array[float]:
    """A column's values for the last `RATE_WINDOW` steps of this session."""
    trained = view.steps.count - view.session_start
    return column[-min(RATE_WINDOW, trained) :] if trained > 0 else array("d")


def tokens_per_second(view: RunView) -> float | None:
    """Trained tokens per second over the last steps of this session."""
    seconds = sum(recent(view, view.steps.seconds))
    return sum(recent(view, view.steps.tokens)) / seconds if seconds > 0 else None


def seconds_left(view: RunView) -> float | None:
    """Estimated time left, from the last steps of this session; None before its first step.

    Includes scheduled validations, samples and checkpoints, and the rest of a running validation.
    Late steps, such as those of a suspended engine, are excluded.
    """
    durations = recent(view, view.steps.seconds)
    if not durations or view.started is None:
        return None
    late = _late_after(median(durations))
    on_time = [each for each in durations if each < late]
    step = sum(on_time) / len(on_time)
    recipe = view.started.recipe
    validation = _mean_seconds(view.validations) or _validation_seconds(view, step)
    planned = (
        (validation, recipe.get("steps_per_eval")),
        (_mean_seconds(view.samples), recipe.get("sample_every")),
        (_mean_seconds(view.checkpoints), recipe.get("save_every")),
    )
    return (
        step * max(0, view.iters - view.step)
        + validation * _share_left(view.progress)
        + sum(seconds * _times_left(view, every) for seconds, every in planned)
    )


_Planned = ev.ValidationFinished | ev.SampleAnswered | ev.CheckpointSaved


def _mean_seconds(done: Sequence[_Planned]) -> float:
    latest = done[-RATE_WINDOW:]
    return sum(each.seconds for each in latest) / len(latest) if latest else 0.0


def _validation_seconds(view: RunView, step: float) -> float:
    """Estimate of the first validation's time: forward passes only."""
    assert view.started is not None
    recipe, data = view.started.recipe, view.data
    if data is None or recipe.get("packing") or not recipe.get("batch_size"):
        return 0.0
    most: int = recipe.get("val_batches") or 0
    batches: int = math.ceil(data.valid_records / recipe["batch_size"])
    return (batches if most < 0 else min(batches, most)) * step * FORWARD_SHARE


def _share_left(progress: ev.ProgressMade | None) -> float:
    """The share left of a running validation; 0 without one."""
    if progress is None or progress.stage != "validating" or not progress.total:
        return 0.0
    return 1 - progress.done / progress.total


def _times_left(view: RunView, every: int | None) -> int:
    """How often something scheduled every so many steps, and after the last, is still due."""
    if not every or view.step >= view.iters:
        return 0
    return view.iters // every - view.step // every + (view.iters % every != 0)


def _late_after(seconds: float) -> float:
    return max(LATE_SECONDS, LATE_FACTOR * seconds)


def seconds_late(view: RunView, now: float) -> float | None:
    """Seconds since a step became due, once it is late; None while steps are on time.

    `now` is by the journal's clock. Other work, such as a validation, is never late.
    """
    durations = recent(view, view.steps.seconds)
    if view.awaited_since is None or view.progress is not None or not durations:
        return None
    late = now - view.awaited_since
    return late if late >= _late_after(max(durations)) else None

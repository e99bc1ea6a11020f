"""When a run ends or needs a hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from mlxft.advice.types import Advice, Topic
from mlxft.errors import FailureCause
from mlxft.runs import events as ev
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import seconds_late
from mlxft.text import figures
from mlxft.text.printable import printable_line

OccasionKind = Literal[
    "finished", "stopped", "failed", "lost", "spiked", "diverged", "stalled", "paused"
]
KINDS: Final[tuple[OccasionKind, ...]] = get_args(OccasionKind)

PAUSED_SECONDS: Final = 600.0
"""How long a run is paused before it may have been forgotten."""


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """Something about a run that its owner wants to know; all text is printable, on one line."""

    kind: OccasionKind
    run: str
    folder: str
    message: str
    step: int
    iters: int
    loss: float | None = None
    cause: FailureCause | None = None

    @property
    def title(self) -> str:
        """The run and what it did."""
        return f"{self.run} {_TITLES[self.kind]}"


_TITLES: Final[dict[OccasionKind, str]] = {
    "finished": "has finished",
    "stopped": "was stopped",
    "failed": "has failed",
    "lost": "was killed",
    "spiked": "has spiked",
    "diverged": "has diverged",
    "stalled": "has stalled",
    "paused": "is still paused",
}


_OF_ADVICE: Final[dict[Topic, OccasionKind]] = {"spike": "spiked", "diverged": "diverged"}
"""Advice that can't wait until somebody looks."""


class Occasions:
    """Compares a run with what it was before; each occasion is new once until it is over."""

    def __init__(self, *, has_been_live: bool = False) -> None:
        """`has_been_live`: whether an end that is seen first is news."""
        self._has_been_live = has_been_live
        self._present: frozenset[OccasionKind] = frozenset()

    def news(self, run: FollowedRun, advice: Advice | None, now: float) -> list[Occasion]:
        """The occasions that are new; `advice` is on its figures, `now` by the journal's clock."""
        if run.live:
            found = _needs(run, advice, now)
            self._has_been_live = True
        elif self._has_been_live:
            found = _end(run)
        else:
            found = []
        new = [each for each in found if each.kind not in self._present]
        self._present = frozenset(each.kind for each in found)
        return new


def _needs(run: FollowedRun, advice: Advice | None, now: float) -> list[Occasion]:
    """Why a live run needs a hand."""
    found: list[Occasion] = []
    kind = _OF_ADVICE.get(advice.topic) if advice is not None else None
    if advice is not None and kind is not None:
        found.append(_occasion(run, kind, f"{advice.message} ({advice.evidence})"))
    late = seconds_late(run.view, now)
    if late is not None and run.state == "running":
        since = figures.duration(late)
        found.append(_occasion(run, "stalled", f"No step for {since} after step {run.view.step}."))
    paused = next((e for e in reversed(run.view.log) if isinstance(e, ev.RunPaused)), None)
    if run.state == "paused" and paused is not None and now - paused.time > PAUSED_SECONDS:
        since = figures.duration(now - paused.time)
        found.append(_occasion(run, "paused", f"It waits after step {run.view.step} for {since}."))
    return found


def _end(run: FollowedRun) -> list[Occasion]:
    """The end of a run; none where its sweep stops it after a round, and may continue it."""
    match run.view.ending:
        case ev.RunFailed(message=message, cause=cause):
            return [_occasion(run, "failed", message, cause)]
        case ev.RunFinished(ends_round=True):
            return []
        case ev.RunFinished() as ending:
            kind: OccasionKind = "stopped" if ending.reason == "stopped" else "finished"
            return [_occasion(run, kind, _summary(ending))]
        case None:
            message = "The engine ended without a word; resume continues from the last checkpoint."
            return [_occasion(run, "lost", message, run.died_of)]


def _summary(ending: ev.RunFinished) -> str:
    parts: Sequence[tuple[str, float | None]] = (
        ("loss", ending.final_loss),
        ("best validation", ending.best_validation_loss),
    )
    known = [f"{name} {value:.3f}" for name, value in parts if value is not None]
    return ", ".join([f"step {ending.step}", *known, figures.duration(ending.seconds)])


def _occasion(
    run: FollowedRun, kind: OccasionKind, message: str, cause: FailureCause | None = None
) -> Occasion:
    return Occasion(
        kind=kind,
        run=printable_line(run.directory.name),
        folder=printable_line(str(run.directory.path)),
        message=printable_line(message),
        step=run.view.step,
        iters=run.view.iters,
        loss=run.view.loss,
        cause=cause,
    )

"""A run's journal as series that can be drawn, over steps, tokens or time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from mlxft.runs.smoothing import smoothed
from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView
from mlxft_tui.plot.series import Series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

Progression = Literal["step", "tokens", "time"]
"""What the x axis counts: steps, trained tokens, or seconds of training."""

Figure = Literal["loss", "speed", "rate", "gradient", "memory"]
"""What the y axis shows: loss, trained tokens a second, learning rate, norm, or peak in bytes."""

NOISY: Final[frozenset[Figure]] = frozenset({"loss", "speed", "gradient"})
"""Figures that jump from step to step, so that smoothing them tells more."""


@dataclass(frozen=True)
class Curve:
    """One figure of a run, raw and smoothed, at its place on the x axis."""

    point: Indices
    """Which of the run's points each is."""
    step: Floats
    x: Floats
    raw: Floats
    smooth: Floats


@dataclass(frozen=True)
class EarlierRun:
    """Another run to compare with: its name and its steps."""

    name: str
    steps: Steps


def curve(steps: Steps, figure: Figure, over: Progression, smoothing: float) -> Curve:
    """The figure over the chosen progression, smoothed over so many steps if it is noisy.

    Points without a finite value are left out.
    """
    import numpy as np

    raw, mean = _values(steps, figure)
    kept = np.flatnonzero(np.isfinite(raw) & np.isfinite(mean))
    step = np.asarray(steps.step)
    counts = np.diff(step, prepend=0.0)[kept]
    x = positions(steps, over)[kept]
    averaged = smoothing if figure in NOISY else 1
    return Curve(kept, step[kept], x, raw[kept], smoothed(mean[kept], averaged, counts))


def _values(steps: Steps, figure: Figure) -> tuple[Floats, Floats]:
    """Each point's own value, and the mean of those that it stands for."""
    import numpy as np

    match figure:
        case "loss":
            return np.asarray(steps.loss), np.asarray(steps.mean_loss)
        case "speed":
            seconds = np.asarray(steps.seconds)
            own = np.full(len(seconds), np.nan)
            np.divide(np.asarray(steps.tokens), seconds, out=own, where=seconds > 0)
        case "rate":
            own = np.asarray(steps.learning_rate)
        case "gradient":
            own = np.asarray(steps.gradient_norm)
        case "memory":
            own = np.asarray(steps.peak_memory)
    return own, own


def positions(steps: Steps, over: Progression) -> Floats:
    """The place of each point on the x axis."""
    import numpy as np

    match over:
        case "step":
            return np.asarray(steps.step)
        case "tokens":
            return np.cumsum(np.asarray(steps.tokens))
        case "time":
            return np.cumsum(np.asarray(steps.seconds))


def place_of(steps: Steps, over: Progression, step: float) -> float:
    """Where on the x axis a step stands, or the last before it."""
    import numpy as np

    if over == "step":
        return step
    index = int(np.searchsorted(np.asarray(steps.step), step, "right")) - 1
    return float(positions(steps, over)[index]) if index >= 0 else 0.0


def validation_points(view: RunView, over: Progression, mark: str) -> Series:
    """The validations as points."""
    import numpy as np

    at = np.array([each.step for each in view.validations], dtype=np.float64)
    if over != "step" and len(at):
        index = np.searchsorted(np.asarray(view.steps.step), at, "right")
        at = np.concatenate(([0.0], positions(view.steps, over)))[index]
    return Series(at, [each.loss for each in view.validations], "validation", mark)

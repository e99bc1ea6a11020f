"""A run's journal as series that can be drawn, over steps, tokens or time."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView
from mlxft_tui.chart import Series, smoothed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

Progression = Literal["step", "tokens", "time"]
"""What the x axis counts: steps, trained tokens, or seconds of training."""

SPEED_STEPS = 10
"""Smoothing of the speed of single steps, which jumps with their length."""


@dataclass(frozen=True)
class LossCurves:
    """The loss, raw and smoothed, at its place on the x axis."""

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


def loss_curves(steps: Steps, over: Progression, smoothing: float) -> LossCurves:
    """The loss over the chosen progression, smoothed over so many steps.

    Points without a finite loss are left out.
    """
    import numpy as np

    loss, mean = np.asarray(steps.loss), np.asarray(steps.mean_loss)
    kept = np.flatnonzero(np.isfinite(loss) & np.isfinite(mean))
    step = np.asarray(steps.step)
    counts = np.diff(step, prepend=0.0)[kept]
    x = positions(steps, over)[kept]
    return LossCurves(kept, step[kept], x, loss[kept], smoothed(mean[kept], smoothing, counts))


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


def learning_rate(steps: Steps) -> Series:
    """The learning rate of each point."""
    return Series(steps.step, steps.learning_rate, "other")


def gradient_norm(steps: Steps) -> Series:
    """The gradient's norm, where it is known."""
    return _known(steps, steps.gradient_norm)


def memory(steps: Steps) -> Series:
    """MLX's peak memory as it was known at each point, in bytes."""
    return _known(steps, steps.peak_memory)


def speed(steps: Steps) -> Series:
    """Trained tokens a second, smoothed."""
    import numpy as np

    seconds, step = np.asarray(steps.seconds), np.asarray(steps.step)
    good = seconds > 0
    rates = np.asarray(steps.tokens)[good] / seconds[good]
    counts = np.diff(step, prepend=0.0)[good]
    return Series(step[good], smoothed(rates, SPEED_STEPS, counts), "other")


def _known(steps: Steps, column: array[float]) -> Series:
    import numpy as np

    values = np.asarray(column)
    good = np.isfinite(values)
    return Series(np.asarray(steps.step)[good], values[good], "other")

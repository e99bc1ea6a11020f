"""A run's journal as series that can be drawn, over steps, tokens or time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlxft.runs.view import RunView, Steps
from mlxft_tui.chart import Series, smoothed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Progression = Literal["step", "tokens", "time"]
"""What the x axis counts: steps, trained tokens, or seconds of training."""

SPEED_WINDOW = 0.9
"""Smoothing of the speed of single steps, which jumps with their length."""


@dataclass(frozen=True)
class LossCurves:
    """The loss of every step, raw and smoothed, at its place on the x axis."""

    step: Floats
    x: Floats
    raw: Floats
    smooth: Floats


def loss_curves(steps: Steps, over: Progression, smoothing: float) -> LossCurves:
    """The loss over the chosen progression; steps without a finite loss are left out."""
    import numpy as np

    loss = np.asarray(steps.loss)
    kept = np.flatnonzero(np.isfinite(loss))
    loss = loss[kept]
    x = positions(steps, over)[kept]
    return LossCurves(np.asarray(steps.step)[kept], x, loss, smoothed(loss, smoothing))


def positions(steps: Steps, over: Progression) -> Floats:
    """The place of each step on the x axis."""
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
    x = [place_of(view.steps, over, each.step) for each in view.validations]
    return Series(x, [each.loss for each in view.validations], "validation", mark)


def learning_rate(steps: Steps) -> Series:
    """The learning rate of each step."""
    return Series(steps.step, steps.learning_rate, "other")


def speed(steps: Steps) -> Series:
    """Trained tokens a second, smoothed."""
    import numpy as np

    seconds = np.asarray(steps.seconds)
    good = seconds > 0
    rates = np.asarray(steps.tokens)[good] / seconds[good]
    return Series(np.asarray(steps.step)[good], smoothed(rates, SPEED_WINDOW), "other")


def memory(view: RunView) -> Series:
    """MLX's peak memory at each report, in bytes."""
    steps: Sequence[float] = [each.step for each in view.reports]
    return Series(steps, [each.peak_memory for each in view.reports], "other")

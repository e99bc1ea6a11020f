"""A run's figures as series to draw, over steps, tokens or time."""

from __future__ import annotations

import math
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

XAxis = Literal["step", "tokens", "time"]
"""What the x axis shows: steps, trained tokens, or seconds of training."""

Figure = Literal[
    "loss",
    "margin",
    "accuracy",
    "reward",
    "log_probability",
    "divergence",
    "speed",
    "rate",
    "gradient",
    "memory",
]
"""What the y axis shows: loss; where it trains a preference the margin between rewards, the share
of pairs that are right, rewards, log-probabilities and KTO's KL estimate; tokens per second,
learning rate, gradient norm, peak in bytes."""

_ARRAYS: Final[dict[Figure, str]] = {
    "margin": "margin",
    "accuracy": "accuracy",
    "reward": "chosen_reward",
    "log_probability": "chosen_logp",
    "divergence": "kl",
    "rate": "learning_rate",
    "gradient": "gradient_norm",
    "memory": "peak_memory",
}
"""The array of `Steps` that holds a figure as it is drawn."""

PREFERENCE: Final[tuple[Figure, ...]] = (
    "margin",
    "accuracy",
    "reward",
    "log_probability",
    "divergence",
)

OF_BOTH: Final[frozenset[Figure]] = frozenset({"reward", "log_probability"})
"""Figures that rejected answers have too; the figure itself is that of the chosen ones."""

NOISY: Final[frozenset[Figure]] = frozenset({"loss", "speed", "gradient", *PREFERENCE})
"""Figures that jump from step to step and are better read smoothed."""


@dataclass(frozen=True)
class Curve:
    """A figure of a run, raw and smoothed; all arrays have one entry per point."""

    point: Indices
    """The index of each point in the run's steps."""
    step: Floats
    x: Floats
    raw: Floats
    smooth: Floats


@dataclass(frozen=True)
class EarlierRun:
    """Another run to compare with."""

    name: str
    steps: Steps


def has(steps: Steps, figure: Figure) -> bool:
    """Whether the run has this figure."""
    if figure not in PREFERENCE or not steps.accuracy:
        return figure not in PREFERENCE
    return figure != "divergence" or math.isfinite(steps.kl[-1])


def curve(
    steps: Steps, figure: Figure, over: XAxis, smoothing: float, *, rejected: bool = False
) -> Curve:
    """The figure over the x axis, smoothed over `smoothing` steps if it is noisy.

    `rejected` takes that of the rejected answers. Points without a finite value are skipped.
    """
    import numpy as np

    raw, mean = _rejected(steps, figure) if rejected else _values(steps, figure)
    if not len(raw):
        raw = mean = np.full(len(steps), np.nan)
    kept = np.flatnonzero(np.isfinite(raw) & np.isfinite(mean))
    step = np.asarray(steps.step)
    counts = np.diff(step, prepend=0.0)[kept]
    x = x_positions(steps, over)[kept]
    averaged = smoothing if figure in NOISY else 1
    return Curve(kept, step[kept], x, raw[kept], smoothed(mean[kept], averaged, counts))


def _values(steps: Steps, figure: Figure) -> tuple[Floats, Floats]:
    """Each point's own value, and the mean over the steps that it stands for."""
    import numpy as np

    match figure:
        case "loss":
            return np.asarray(steps.loss), np.asarray(steps.mean_loss)
        case "speed":
            seconds = np.asarray(steps.seconds)
            own = np.full(len(seconds), np.nan)
            np.divide(np.asarray(steps.tokens), seconds, out=own, where=seconds > 0)
        case _:
            own = np.asarray(getattr(steps, _ARRAYS[figure]))
    return own, own


def _rejected(steps: Steps, figure: Figure) -> tuple[Floats, Floats]:
    import numpy as np

    own = np.asarray(steps.rejected_reward if figure == "reward" else steps.rejected_logp)
    return own, own


def x_positions(steps: Steps, over: XAxis) -> Floats:
    """The x value of each point."""
    import numpy as np

    match over:
        case "step":
            return np.asarray(steps.step)
        case "tokens":
            return np.cumsum(np.asarray(steps.tokens))
        case "time":
            return np.cumsum(np.asarray(steps.seconds))


def x_of_step(steps: Steps, over: XAxis, step: float) -> float:
    """The x value of a step, or of the last point before it."""
    import numpy as np

    if over == "step":
        return step
    index = int(np.searchsorted(np.asarray(steps.step), step, "right")) - 1
    return float(x_positions(steps, over)[index]) if index >= 0 else 0.0


def validation_points(view: RunView, over: XAxis, mark: str) -> Series:
    """The validations as points."""
    import numpy as np

    at = np.array([each.step for each in view.validations], dtype=np.float64)
    if over != "step" and len(at):
        index = np.searchsorted(np.asarray(view.steps.step), at, "right")
        at = np.concatenate(([0.0], x_positions(view.steps, over)))[index]
    return Series(at, [each.loss for each in view.validations], "validation", mark)

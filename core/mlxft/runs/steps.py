"""The trained steps of a run, in a memory that a run of any length fits into."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

EXACT = 2048
"""The latest steps, which always have a point each."""

MOST_SETTLED = 8192
"""Points of the steps before them; at more, each stands for twice as many steps."""

FIRST_STRIDE = 4
"""Steps of which two points are kept at first."""


def _floats() -> array[float]:
    return array("d")


@dataclass(frozen=True, eq=False)
class Steps:
    """Points in the order of their steps, as columns of equal length.

    A point stands for its own step and for those since the point before it. The latest steps have
    a point each. Of the earlier ones those with the lowest and the highest loss of each `stride`
    are kept as they were, so that no spike is lost and a million steps take no more room than ten
    thousand. The same steps give the same points however they are added.
    """

    step: array[float] = field(default_factory=_floats)
    loss: array[float] = field(default_factory=_floats)
    """The loss of that very step."""
    mean_loss: array[float] = field(default_factory=_floats)
    """The mean of the finite losses that the point stands for; NaN where there is none."""
    tokens: array[float] = field(default_factory=_floats)
    seconds: array[float] = field(default_factory=_floats)
    """Tokens and seconds of all steps that the point stands for."""
    learning_rate: array[float] = field(default_factory=_floats)
    gradient_norm: array[float] = field(default_factory=_floats)
    peak_memory: array[float] = field(default_factory=_floats)
    """The highest norm and MLX's peak in bytes among those steps; NaN where it isn't known."""
    settled: int = 0
    """Points at the start that may stand for several steps."""
    stride: int = FIRST_STRIDE

    def __len__(self) -> int:
        return len(self.step)

    def __eq__(self, other: object) -> bool:
        # Figures that aren't known are NaN, which differs from itself.
        return isinstance(other, Steps) and _bytes(self) == _bytes(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """Steps that the points stand for."""
        return int(self.step[-1]) if self.step else 0

    def added(self, columns: list[array[float]]) -> Steps:
        """These steps and the later ones, one point each, given in the order of the columns."""
        old = _columns(self)
        steps = _with(self, [before + new for before, new in zip(old, columns, strict=True)])
        while len(steps) - steps.settled >= 2 * EXACT:
            steps = _settle(steps)
        return steps

    def until(self, step: int) -> Steps:
        """The points up to a step, from which a resume goes on."""
        keep = bisect_right(self.step, step)
        if keep == len(self):
            return self
        cut = _with(self, [column[:keep] for column in _columns(self)])
        return replace(cut, settled=min(self.settled, keep))


_NAMES = [each.name for each in fields(Steps) if each.name not in ("settled", "stride")]


def _columns(steps: Steps) -> list[array[float]]:
    return [getattr(steps, name) for name in _NAMES]


def _with(steps: Steps, columns: list[array[float]]) -> Steps:
    return replace(steps, **dict(zip(_NAMES, columns, strict=True)))  # type: ignore[arg-type]


def _bytes(steps: Steps) -> list[bytes]:
    return [column.tobytes() for column in _columns(steps)]


def _settle(steps: Steps) -> Steps:
    """Thin the oldest of the exact points, and all settled ones once there are too many."""
    steps = _thinned(steps, steps.settled, steps.settled + EXACT, steps.stride)
    while steps.settled > MOST_SETTLED:
        steps = _thinned(steps, 0, steps.settled, 2 * steps.stride)
    return steps


def _thinned(steps: Steps, start: int, end: int, stride: int) -> Steps:
    """The points from `start` to `end` thinned to two a stride; what they stand for is summed."""
    import numpy as np

    step, loss, mean, tokens, seconds, rate, norm, peak = (
        np.array(column[start:end]) for column in _columns(steps)
    )
    before = steps.step[start - 1] if start else 0.0
    counts = np.diff(step, prepend=before) * np.isfinite(mean)
    kept = _extremes(step // stride, loss)
    starts = np.concatenate(([0], kept[:-1] + 1))
    losses = np.add.reduceat(counts * np.nan_to_num(mean), starts)
    counted = np.add.reduceat(counts, starts)
    mean = np.divide(losses, counted, out=np.full(len(kept), np.nan), where=counted > 0)
    thin = (
        step[kept],
        loss[kept],
        mean,
        np.add.reduceat(tokens, starts),
        np.add.reduceat(seconds, starts),
        rate[kept],
        np.fmax.reduceat(norm, starts),
        np.fmax.reduceat(peak, starts),
    )
    columns = [
        column[:start] + array("d", new.tobytes()) + column[end:]
        for column, new in zip(_columns(steps), thin, strict=True)
    ]
    return replace(_with(steps, columns), settled=start + len(kept), stride=stride)


def _extremes(bucket: Floats, value: Floats) -> Indices:
    """The lowest and highest of each bucket, and the last of all, in order."""
    import numpy as np

    order = np.lexsort((value, bucket))
    edges = np.flatnonzero(np.diff(bucket[order])) + 1
    lowest = order[np.concatenate(([0], edges))]
    highest = order[np.concatenate((edges - 1, [len(order) - 1]))]
    return np.unique(np.concatenate((lowest, highest, [len(value) - 1])))

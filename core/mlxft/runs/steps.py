"""The trained steps of a run, in bounded memory."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

EXACT = 2048
"""Latest steps that have a point each."""

MOST_SETTLED = 8192
"""Most points for earlier steps; beyond that the stride doubles."""

FIRST_STRIDE = 4
"""Initial number of steps that are reduced to two points."""


def _floats() -> array[float]:
    return array("d")


def mean(sums: Sequence[float], count: float | None = None) -> float | None:
    """The mean of the `count` values that `sums` add up to; None where there is none."""
    if not sums:
        return None
    try:
        return math.fsum(sums) / (count or len(sums))
    except OverflowError:
        return math.inf  # Losses near the largest float.


@dataclass(frozen=True, eq=False, kw_only=True)
class Steps:
    """Points in step order, as columns of equal length.

    A point stands for its own step and those since the previous point. The latest steps have a
    point each. Of each `stride` of earlier steps, the ones with the lowest and the highest loss are
    kept, so no spike is lost and a million steps need no more memory than ten thousand. The same
    steps give the same points however they are batched.
    """

    step: array[float] = field(default_factory=_floats)
    loss: array[float] = field(default_factory=_floats)
    """The loss of the step itself."""
    mean_loss: array[float] = field(default_factory=_floats)
    """The mean finite loss of the steps that the point stands for; NaN if none is finite."""
    tokens: array[float] = field(default_factory=_floats)
    seconds: array[float] = field(default_factory=_floats)
    """Tokens and seconds, summed over the steps that the point stands for."""
    learning_rate: array[float] = field(default_factory=_floats)
    gradient_norm: array[float] = field(default_factory=_floats)
    peak_memory: array[float] = field(default_factory=_floats)
    """The highest norm and peak memory in bytes among those steps; NaN if unknown."""
    chosen_reward: array[float] = field(default_factory=_floats)
    rejected_reward: array[float] = field(default_factory=_floats)
    margin: array[float] = field(default_factory=_floats)
    accuracy: array[float] = field(default_factory=_floats)
    chosen_logp: array[float] = field(default_factory=_floats)
    rejected_logp: array[float] = field(default_factory=_floats)
    kl: array[float] = field(default_factory=_floats)
    """What the loss says of a preference: the mean over the steps that the point stands for, NaN
    where none says it. Empty with the loss sft."""
    settled: int = 0
    """How many points at the start may stand for several steps."""
    stride: int = FIRST_STRIDE

    def __len__(self) -> int:
        return len(self.step)

    def __eq__(self, other: object) -> bool:
        # Unknown values are NaN, which differs from itself.
        return isinstance(other, Steps) and _bytes(self) == _bytes(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """How many steps the points stand for."""
        return int(self.step[-1]) if self.step else 0

    @property
    def mean(self) -> float | None:
        """The mean finite loss of all steps; None where there is none."""
        before = chain((0.0,), self.step)
        counted = [
            (loss, step - last)
            for loss, step, last in zip(self.mean_loss, self.step, before, strict=False)
            if math.isfinite(loss)
        ]
        return mean([math.prod(each) for each in counted], math.fsum(n for _, n in counted))

    def columns(self) -> dict[str, array[float]]:
        """The points as columns, by name."""
        return dict(zip(_NAMES, _columns(self), strict=True))

    def added(self, columns: list[array[float]]) -> Steps:
        """These steps followed by later ones, one point each, as columns in field order.

        The columns of a preference are left out where the loss has none.
        """
        old = _columns(self)
        columns = columns + [_floats()] * (len(old) - len(columns))
        steps = _with(self, [before + new for before, new in zip(old, columns, strict=True)])
        while len(steps) - steps.settled >= 2 * EXACT:
            steps = _settle(steps)
        return steps

    def until(self, step: int) -> Steps:
        """The points up to the step that a resume starts from."""
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
    """Thin the oldest exact points, and all settled ones if there are too many."""
    steps = _thinned(steps, steps.settled, steps.settled + EXACT, steps.stride)
    while steps.settled > MOST_SETTLED:
        steps = _thinned(steps, 0, steps.settled, 2 * steps.stride)
    return steps


def _thinned(steps: Steps, start: int, end: int, stride: int) -> Steps:
    """Points `start` to `end` reduced to two per stride, their tokens and seconds summed."""
    import numpy as np

    step, loss, mean, tokens, seconds, rate, norm, peak, *preference = (
        np.array(column[start:end]) for column in _columns(steps)
    )
    before = steps.step[start - 1] if start else 0.0
    counts = np.diff(step, prepend=before)
    kept = _extremes(step // stride, loss)
    starts = np.concatenate(([0], kept[:-1] + 1))
    thin = (
        step[kept],
        loss[kept],
        _means(mean, counts, starts),
        np.add.reduceat(tokens, starts),
        np.add.reduceat(seconds, starts),
        rate[kept],
        np.fmax.reduceat(norm, starts),
        np.fmax.reduceat(peak, starts),
        *(_means(each, counts, starts) if len(each) else each for each in preference),
    )
    columns = [
        column[:start] + array("d", new.tobytes()) + column[end:]
        for column, new in zip(_columns(steps), thin, strict=True)
    ]
    return replace(_with(steps, columns), settled=start + len(kept), stride=stride)


def _means(values: Floats, counts: Floats, starts: Indices) -> Floats:
    """The mean finite value of each stretch, each value counting for its steps."""
    import numpy as np

    finite = counts * np.isfinite(values)
    sums = np.add.reduceat(finite * np.nan_to_num(values), starts)
    counted = np.add.reduceat(finite, starts)
    means = np.full(len(starts), np.nan)
    np.divide(sums, counted, out=means, where=counted > 0)
    return means


def _extremes(bucket: Floats, value: Floats) -> Indices:
    """Indices of the lowest and highest of each bucket, and of the last value, in order."""
    import numpy as np

    order = np.lexsort((value, bucket))
    edges = np.flatnonzero(np.diff(bucket[order])) + 1
    lowest = order[np.concatenate(([0], edges))]
    highest = order[np.concatenate((edges - 1, [len(order) - 1]))]
    return np.unique(np.concatenate((lowest, highest, [len(value) - 1])))

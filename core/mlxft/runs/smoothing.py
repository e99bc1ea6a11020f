"""Smoothed figures of a run: exponential averages over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mlxft.runs.steps import Steps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


BLOCK_DECAY: Final = 300.0
"""Powers of e over which a block of a moving average reaches: far from what a float can't hold."""


LEAST_BLOCK: Final = 50
"""Values from which a block is faster than one value after the other."""


def smoothed(
    values: Sequence[float] | Floats, steps: float, counts: Sequence[float] | Floats | None = None
) -> Floats:
    """The debiased exponential moving average over so many steps, one value for each.

    s_t = beta s_(t-1) + (1 - beta) x_t, divided by 1 - beta^t, with beta = 1 - 1 / steps. A value
    that is the mean of several steps, as `counts` tells, weighs as many. Values must be finite.
    """
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    weights = np.ones(len(data)) if counts is None else np.asarray(counts, dtype=np.float64)
    if steps <= 1 or not len(data):
        return data
    decay = weights * math.log(1 - 1 / steps)
    blocks = -float(decay.sum()) / BLOCK_DECAY
    by_blocks = blocks < len(data) / LEAST_BLOCK
    averages = _averages_by_blocks(data, decay) if by_blocks else _averages(data, decay)
    return averages / -np.expm1(np.cumsum(decay))


def _averages(data: Floats, decay: Floats) -> Floats:
    """The moving average, one value after the other; `decay` is the logarithm of what each keeps
    of those before it."""
    import numpy as np

    average = 0.0
    return np.array(
        [
            average := average + gain * (value - average)
            for value, gain in zip(data.tolist(), (-np.expm1(decay)).tolist(), strict=True)
        ]
    )


def _averages_by_blocks(data: Floats, decay: Floats) -> Floats:
    """The same in long blocks at once: within one, all weights are taken from its start."""
    import numpy as np

    total, added = np.cumsum(decay), -np.expm1(decay) * data
    averages = np.empty(len(data))
    average, start = 0.0, 0
    while start < len(data):
        before = total[start - 1] if start else 0.0
        end = max(start + 1, int(np.searchsorted(-total, BLOCK_DECAY - before, "right")))
        kept = np.exp(np.cumsum(decay[start:end]))
        if kept[-1]:
            averages[start:end] = kept * (average + np.cumsum(added[start:end] / kept))
        else:
            averages[start] = added[start]  # Nothing of what was before is left.
        average, start = averages[end - 1], end
    return averages


LOSS_SMOOTHING: Final = 10
"""Steps that a loss is averaged over where one figure stands for the run."""


LATEST: Final = 15 * LOSS_SMOOTHING
"""Steps that such a figure is made of: what is further back weighs less than its last digit."""


def latest_loss(steps: Steps) -> float | None:
    """The value in which the smoothed curve of the loss ends, without making all of the curve.

    A loss that isn't finite is told as it is: the run is about to fail.
    """
    losses = steps.loss[-LATEST:]
    if not losses or not math.isfinite(losses[-1]):
        return losses[-1] if losses else None
    return float(smoothed([each for each in losses if math.isfinite(each)], LOSS_SMOOTHING)[-1])

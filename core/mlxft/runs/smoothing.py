"""Exponential moving averages over a run's steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


BLOCK_DECAY: Final = 300.0
"""Total decay within a block, in powers of e: far from a float's limits."""


LEAST_BLOCK: Final = 50
"""Values per block from which vectorised blocks beat the plain loop."""


def smoothed(
    values: Sequence[float] | Floats, steps: float, counts: Sequence[float] | Floats | None = None
) -> Floats:
    """The debiased exponential moving average over `steps` steps, one value per input.

    s_t = beta s_(t-1) + (1 - beta) x_t, divided by 1 - beta^t, with beta = 1 - 1 / steps. A value
    that is the mean of `counts` steps has their weight. Values must be finite.
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
    """The moving average in a plain loop; `decay` is the logarithm of the weight that each value
    leaves to those before it."""
    import numpy as np

    average = 0.0
    return np.array(
        [
            average := average + gain * (value - average)
            for value, gain in zip(data.tolist(), (-np.expm1(decay)).tolist(), strict=True)
        ]
    )


def _averages_by_blocks(data: Floats, decay: Floats) -> Floats:
    """The same, vectorised in blocks: within one, weights are relative to its start."""
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
            averages[start] = added[start]  # Nothing before it has any weight left.
        average, start = averages[end - 1], end
    return averages


LOSS_SMOOTHING: Final = 10
"""Steps averaged over in a curve, unless another number is chosen."""

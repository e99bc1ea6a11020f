"""Series of a plot, reduced to the points that a width can show; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mlxft_tui.text.cells import Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A curve, or points drawn with the character `mark`; x is sorted."""

    x: Sequence[float] | Floats
    y: Sequence[float] | Floats
    role: Role
    mark: str = ""


def decimated(x: Floats, y: Floats, low: float, high: float, buckets: int) -> tuple[Floats, Floats]:
    """The lowest and highest point per bucket between the x limits, and one neighbour outside each.

    Points keep their values, so no spike is lost.
    """
    import numpy as np

    edges = np.searchsorted(x, np.linspace(low, high, buckets + 1))
    last = int(np.searchsorted(x, high, "right"))
    chosen = {max(0, int(edges[0]) - 1), min(last, len(x) - 1)} if len(x) else set()
    for start, end in pairwise([*edges.tolist()[:-1], last]):
        if start < end:
            part = y[start:end]
            chosen |= {start + int(part.argmin()), start + int(part.argmax())}
    index = sorted(chosen)
    return x[index], y[index]


def finite(series: Series, log: bool) -> tuple[Floats, Floats]:
    """The drawable points: finite, and positive on a logarithmic axis."""
    import numpy as np

    x = np.asarray(series.x, dtype=np.float64)
    y = np.asarray(series.y, dtype=np.float64)
    good = np.isfinite(x) & np.isfinite(y)
    if log:
        good &= y > 0
    return (x, y) if good.all() else (x[good], y[good])

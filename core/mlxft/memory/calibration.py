"""What this machine's finished runs teach the estimator."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mlxft.memory.estimator import MemoryEstimate

LEAST: Final = 0.5
MOST: Final = 3.0
"""A correction outside of these is not the estimator's error but another kind of run."""


@dataclass(frozen=True)
class Peak:
    """A finished run: its estimate, and the peak that MLX reported, in bytes."""

    estimate: MemoryEstimate
    measured: int

    @property
    def correction(self) -> float | None:
        """What would have made the estimate right; None where it says nothing.

        Weights, adapter and optimizer are counted, not estimated, so only the rest is corrected.
        """
        guessed = self.estimate.activations + self.estimate.loss
        counted = self.estimate.peak - guessed
        if guessed <= 0 or self.measured <= counted:
            return None
        return (self.measured - counted) / guessed


def correction(peaks: Iterable[Peak]) -> float:
    """The factor for activations and loss on this machine: the median of its runs', 1 without any.

    Runs in which the guessed part is small say little, so each counts by that part's size.
    """
    known = [
        (factor, peak.estimate.activations + peak.estimate.loss)
        for peak in peaks
        if (factor := peak.correction) is not None and LEAST <= factor <= MOST
    ]
    return _weighted_median(known) if known else 1.0


def _weighted_median(values: list[tuple[float, int]]) -> float:
    ordered = sorted(values)
    if len(ordered) == 2:
        return statistics.fmean(value for value, _ in ordered)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0]

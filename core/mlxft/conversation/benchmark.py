"""Benchmark results: single runs, and mean and standard deviation over several."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

BUSY: Final = 0.1
"""Share of the processors used by others from which a run says more about them."""

MOST_REPEATS: Final = 2
"""How many times the wanted runs a busy machine gets to have enough undisturbed ones."""


class SpeedRun(msgspec.Struct, frozen=True):
    """Prompt and generation speed of a run in tokens per second, and MLX's peak in bytes.

    `others` is the share of the processors that other processes used meanwhile.
    """

    prompt_speed: float
    generation_speed: float
    peak_memory: int
    others: float = 0.0

    @property
    def disturbed(self) -> bool:
        """Whether other processes were busy meanwhile, so that the run is repeated."""
        return self.others >= BUSY


def undisturbed(runs: Sequence[SpeedRun]) -> list[SpeedRun]:
    """The runs that count: those on an idle machine, or all if there are none."""
    return [run for run in runs if not run.disturbed] or list(runs)


class Spread(msgspec.Struct, frozen=True):
    """The mean and the sample standard deviation, 0 for a single value."""

    mean: float
    deviation: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of the values."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), deviation)

"""The speed of a model in figures: each run, and the mean of several with its spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class SpeedRun(msgspec.Struct, frozen=True):
    """One run: prompt and answer in tokens a second, and MLX's peak in bytes."""

    prompt_speed: float
    generation_speed: float
    peak_memory: int


class Spread(msgspec.Struct, frozen=True):
    """A mean and the standard deviation of the sample; 0 for a single value."""

    mean: float
    deviation: float


def spread(values: Sequence[float]) -> Spread:
    """The mean of the values and how far they lie apart."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), deviation)

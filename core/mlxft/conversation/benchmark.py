"""Benchmark results: single runs, and mean and standard deviation over several."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class SpeedRun(msgspec.Struct, frozen=True):
    """Prompt and generation speed of a run in tokens per second, and MLX's peak in bytes."""

    prompt_speed: float
    generation_speed: float
    peak_memory: int


class Spread(msgspec.Struct, frozen=True):
    """The mean and the sample standard deviation, 0 for a single value."""

    mean: float
    deviation: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of the values."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), deviation)

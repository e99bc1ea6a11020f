"""Measures the link between the ranks of a run by a few sums, before its first step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

import mlx.core as mx

from mlxft.compute.arrays import number
from mlxft.hosts.link import SumTime

SIZES: Final = (4, 2**14, 2**18, 2**22)
"""Bytes of the messages that are added up before one of the run's own size."""

SUMS: Final = 5
"""How often each is added up after a first time; the median counts."""

LONG: Final = 0.2
"""Seconds of a sum after which no larger message is tried: a slow link isn't kept busy."""


def measured_sums(
    sum_of: Callable[[mx.array], mx.array],
    message: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[SumTime]:
    """Seconds of sums over all ranks up to a message of `message` bytes; `hosts.link.link_of` has
    the link from them.

    Every rank calls this at the same place of its order of sums: `sum_of` adds up an array of each
    rank and evaluates it. What ranks decide from their clocks they decide from a sum of them, so
    that all make the same sums. Raises what `sum_of` raises.
    """
    found: list[SumTime] = []
    largest = max(message, SIZES[1])
    for size in [*(size for size in SIZES if size < largest), largest]:
        seconds = _seconds(sum_of, size, clock)
        found.append(SumTime(size, seconds))
        if seconds > LONG and len(found) > 1:
            break
    return found


def _seconds(
    sum_of: Callable[[mx.array], mx.array], size: int, clock: Callable[[], float]
) -> float:
    """The median of several sums, as the mean of all ranks."""
    array = mx.zeros(size // 4, mx.float32)
    mx.eval(array)
    taken = []
    for _ in range(SUMS + 1):
        started = clock()
        mx.eval(sum_of(array))
        taken.append(clock() - started)
    together = sum_of(mx.array([statistics.median(taken[1:]), 1.0], mx.float32))
    mx.eval(together)
    return number(together[0]) / number(together[1])

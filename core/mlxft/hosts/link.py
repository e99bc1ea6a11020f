"""What adding up a message over all ranks costs, and what several ranks gain; pure.

A ring adds up in 2 (N - 1) hops, each of which carries an N-th of the message
(Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009),
so N ranks take 2 (N - 1) latencies and 2 (N - 1) / N of the message's bytes over the bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link between two ranks: seconds until a message begins to arrive, and bytes per second."""

    latency: float
    bandwidth: float

    def seconds(self, size: int, ranks: int) -> float:
        """Seconds in which so many ranks add up a message of `size` bytes."""
        hops = 2 * (ranks - 1)
        return hops * (self.latency + size / ranks / self.bandwidth) if size else 0.0


class SumTime(msgspec.Struct, frozen=True):
    """A measured sum over all ranks: the message's bytes, and seconds."""

    size: int
    seconds: float


def link_of(measured: Sequence[SumTime], ranks: int) -> Link:
    """The link that explains the measured sums of so many ranks: at least two sizes.

    The largest message is met exactly, since a run's own is of its size; the smallest gives the
    latency, up to what the largest leaves for it. Raises `ValueError` for fewer sizes or ranks.
    """
    if ranks < 2 or len({each.size for each in measured}) < 2:
        raise ValueError(f"{len(measured)} sums of {ranks} ranks say nothing of their link")
    hops = 2 * (ranks - 1)
    small = min(measured, key=lambda each: each.size)
    large = max(measured, key=lambda each: each.size)
    moved = hops * (large.size - small.size) / ranks
    taken = max(large.seconds - small.seconds, large.seconds * 1e-3)
    bandwidth = moved / taken
    latency = max(0.0, large.seconds / hops - large.size / ranks / bandwidth)
    return Link(latency=latency, bandwidth=bandwidth)


def gradient_message(trained: int) -> int:
    """Bytes of the message with the gradients of so many trained parameters, which is float32."""
    return 4 * trained


def rows_of_a_rank(rows: int, ranks: int) -> int:
    """The most rows of a batch that a rank computes."""
    return math.ceil(rows / ranks)


def ranks_step(
    step: float, *, rows: int, ranks: int, message: int, link: Link | None, fixed: float = 0.0
) -> float:
    """Seconds of a step of several ranks, from those that one takes for all of its rows.

    `fixed` of the seconds don't shrink with the rows, as reading the weights. Without a link the
    message is free.
    """
    share = rows_of_a_rank(rows, ranks) / rows
    own = min(step, max(fixed, step * share))
    return own + (link.seconds(message, ranks) if link else 0.0)

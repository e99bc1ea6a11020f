"""The link is measured by the same sums on every rank."""

from __future__ import annotations

import mlx.core as mx

from mlxft.compute.link import measured_sums
from mlxft.hosts.link import link_of


class Ranks:
    """Two ranks that add up over a link without latency and with 1 MB/s, by a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sizes: list[int] = []

    def clock(self) -> float:
        return self.now

    def sum_of(self, array: mx.array) -> mx.array:
        self.now += array.nbytes / 1e6
        self.sizes.append(array.nbytes)
        return 2 * array


def test_the_last_message_is_of_the_size_of_the_gradients() -> None:
    ranks = Ranks()
    found = measured_sums(ranks.sum_of, 100_000, clock=ranks.clock)
    assert [each.size for each in found] == [4, 16_384, 100_000]
    assert round(link_of(found, 2).bandwidth) == 1_000_000


def test_a_slow_link_is_not_busy_with_large_messages() -> None:
    ranks = Ranks()
    found = measured_sums(ranks.sum_of, 400_000_000, clock=ranks.clock)
    assert found[-1].size == max(ranks.sizes) == 2**18


def test_a_small_adapter_is_measured_too() -> None:
    ranks = Ranks()
    found = measured_sums(ranks.sum_of, 4, clock=ranks.clock)
    assert [each.size for each in found] == [4, 16_384]

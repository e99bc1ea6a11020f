"""Several ranks in one process, which add up as many parts of each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import mlx.core as mx

from mlxft.compute.training.rank_orders import (
    AddGradient,
    FindLogProbabilities,
    FindLoss,
    Order,
    TakeWeights,
)
from mlxft.compute.training.ranked_step import RankedStepper
from mlxft.recipe import Recipe
from mlxft.runs.events import RankReport


class PretendedRanks:
    """Stands in for the processes of other ranks: rank 0 computes their parts too."""

    backend = "this process"
    hosts: Sequence[str] = ()
    loss = None

    def __init__(self, count: int) -> None:
        self.count = count
        self.leader: RankedStepper | None = None
        """Rank 0's stepper."""
        self._orders: list[Order] = []
        self._messages: list[mx.array] | None = None
        """Those of the part that is computed for another rank."""
        self._waiting: list[list[mx.array]] = []

    def load(self, recipe: Recipe, base: Mapping[str, str]) -> None:
        """There is nothing to load."""

    def send(self, orders: Sequence[Order]) -> None:
        """Keep the orders for the next sum."""
        self._orders = list(orders)

    def join(self) -> Any:
        """Adds up an array of each rank."""
        return self._sum

    def stepped(self, seconds: float, tokens: int) -> None:
        """Nothing is reported."""

    def reports(self) -> list[RankReport]:
        """Nothing is reported."""
        return []

    def _sum(self, array: mx.array) -> mx.array:
        if self._messages is not None:
            self._messages.append(array)
            return array
        if self._orders:
            self._waiting = [self._part(each) for each in self._orders]
            self._orders = []
        for messages in self._waiting:
            if messages:
                array = array + messages.pop(0)
        mx.eval(array)
        return array

    def _part(self, order: Order) -> list[mx.array]:
        """The messages of another rank's part."""
        leader = self.leader
        assert leader is not None
        self._messages, before = [], leader.accumulated
        match order:
            case AddGradient():
                # A part without a pair has no accuracy, but its messages are out by then.
                with suppress(ZeroDivisionError):
                    leader.add_part(order)
            case FindLoss():
                leader.loss_of_part(order)
            case FindLogProbabilities():
                leader.log_probabilities_of_part(order)
            case TakeWeights():
                pass
        messages, self._messages = self._messages, None
        leader.accumulated = before
        return messages

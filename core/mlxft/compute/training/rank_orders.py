"""What rank 0 has the other ranks of a run do, and what it hears from them.

Only rank 0 decides anything: the others follow one order after the other, so every command reaches
all ranks at the same step, and all of them take part in the same sums in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import mlx.core as mx

from mlxft.compute.training.choices import Choices
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.preference_loss import PreferenceLoss
from mlxft.recipe import Recipe
from mlxft.runs.events import RankReport

Sum = Callable[[mx.array], mx.array]
"""Adds up an array of each rank; evaluated when it returns."""

Arrays = Mapping[str, Any]
"""A batch's arrays by field, as NumPy's."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Load the recipe's model, with new adapter layers."""

    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class Join:
    """Join the other ranks by MLX's `backend`, under the environment of mlx.launch.

    `files` are written, and their paths put into the environment.
    """

    backend: str
    environment: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Compute as rank 0 does from now on.

    `run_ahead_limit` are the bytes up to which MLX may schedule ahead.
    """

    ways: Choices
    loss: Loss | PreferenceLoss
    grad_checkpoint: bool
    run_ahead_limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class MeasureLink:
    """Add up messages of several sizes, up to these bytes."""

    message: int


@dataclass(frozen=True, kw_only=True)
class TakeWeights:
    """Take rank 0's weights and optimizer state.

    With a `weight` also the gradients that wait for an update, of this weight and `unit`.
    """

    weight: float = 0.0
    unit: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AddGradient:
    """Add up the gradient of a batch, `part` of which is this rank's: None if it has no row."""

    step: int
    part: Arrays | None
    total_weight: float
    target_count: int
    own_count: int = 0
    """Of how many trained tokens this rank's part is."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """Apply what was added up."""

    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class FindLoss:
    """Add up the loss of a batch, without dropout."""

    part: Arrays | None


@dataclass(frozen=True, kw_only=True)
class FindLogProbabilities:
    """Add up the log-probabilities of a batch's `count` answers; `own` are this rank's places."""

    part: Arrays | None
    own: Sequence[int]
    count: int


Order = (
    Load
    | Join
    | Begin
    | MeasureLink
    | TakeWeights
    | AddGradient
    | Update
    | FindLoss
    | FindLogProbabilities
)


class Ranks(Protocol):
    """The other ranks of a run, as rank 0 commands them; each has an order in `orders`."""

    @property
    def count(self) -> int:
        """All ranks, with rank 0."""

    @property
    def hosts(self) -> list[str]:
        """The machine of each rank."""

    @property
    def backend(self) -> str:
        """How they reach each other, in MLX's word."""

    @property
    def loss(self) -> str | None:
        """Which of them is lost and how, in words for a sentence."""

    def send(self, orders: Sequence[Order]) -> None:
        """Give each of the other ranks its order, and return at once.

        Raises `RunError` naming a rank that is lost.
        """

    def load(self, recipe: Recipe, base: Mapping[str, str]) -> None:
        """Have them load the model, whose weights are those of `base`."""

    def join(self) -> Sum:
        """Wait until they have, and form the group; adds up an array of each rank.

        A sum raises `RunError` naming a rank that is lost, as this does.
        """

    def stepped(self, seconds: float, tokens: int) -> None:
        """Note for how long rank 0 itself has computed a step, and of how many trained tokens."""

    def reports(self) -> list[RankReport]:
        """What each rank has taken since the last report."""

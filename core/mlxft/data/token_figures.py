"""A file's token figures, small enough to be sent to a viewer."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mlxft.data.faults import Fault


@dataclass(frozen=True)
class Bin:
    """Number of lengths from `low` to `high`, inclusive."""

    low: int
    high: int
    count: int


class TokenFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A file's tokens under a recipe; sums from a sample are estimates for the whole file."""

    records: int
    measured: int
    tokens: int
    """Before truncation."""
    tokens_spread: int
    """Half the width of the 95% confidence interval of `tokens`; 0 if all records were measured."""
    longest: int
    trained_tokens: int
    trained_as: int
    """Records as they are trained: several of a conversation where answers see it differently."""
    trained_weight: float
    """The sum of the trained tokens' weights in the loss."""
    overlong: int
    """Records longer than max_seq_length."""
    lost_tokens: int
    """Tokens of theirs that are truncated or dropped."""
    untrainable: int
    """Records, or pieces of split ones, without a trained token."""
    padding_share: float
    steps_per_epoch: int
    bins: tuple[Bin, ...]
    refused: int = 0
    """Records that the chat template rejects, or with tokens that the model doesn't have."""
    warnings: tuple[Fault, ...] = ()
    """Where records lose tokens or aren't trained as expected; the first of each kind."""

    @property
    def whole(self) -> bool:
        """Whether every record was measured."""
        return self.measured == self.records

    @property
    def trains_nothing(self) -> bool:
        """Whether no record has a trained token."""
        return self.measured > 0 and self.whole and not self.trained_weight

    @property
    def is_weighted(self) -> bool:
        """Whether the weights change what trained tokens count in the loss."""
        return round(self.trained_weight) != self.trained_tokens

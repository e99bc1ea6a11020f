"""What is known of a file's tokens, small enough to be sent to a viewer."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mlxft.data.validation import Fault


@dataclass(frozen=True)
class Bin:
    """How many lengths lie from `low` to `high`, both included."""

    low: int
    high: int
    count: int


class TokenFigures(msgspec.Struct, frozen=True):
    """What a recipe makes of a file; from a sample all sums are estimates for the whole file."""

    records: int
    measured: int
    tokens: int
    """Before any cut."""
    tokens_spread: int
    """The true sum lies within so many to each side, 95 times of 100; 0 when all was measured."""
    longest: int
    trained_tokens: int
    overlong: int
    """Records longer than max_seq_length."""
    lost_tokens: int
    """Of their tokens, those that are cut off or left out."""
    untrainable: int
    """Records, or pieces of split ones, left without a trained token."""
    padding_share: float
    steps_per_epoch: int
    bins: tuple[Bin, ...]
    refused: int = 0
    """Records that the chat template refuses."""
    doubts: tuple[Fault, ...] = ()
    """Where records lose tokens, or are not trained as one would think; the first of each kind."""

    @property
    def whole(self) -> bool:
        """Whether every record was measured."""
        return self.measured == self.records

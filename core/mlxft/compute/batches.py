"""A data set as tokens, and its batches as arrays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlxft.compute.tokenization import TokenizedRecord, Tokenizer, tokenize
from mlxft.data.batch_plan import Batch, BatchPlan
from mlxft.data.dataset import Split
from mlxft.recipe import Recipe

_SECONDS_BETWEEN_REPORTS = 0.25


@dataclass(frozen=True)
class TokenizedSplit:
    """The records of a split as tokens, with the plan of their batches."""

    split: Split
    records: tuple[TokenizedRecord, ...]
    plan: BatchPlan

    @property
    def tokens(self) -> int:
        """Tokens left after the cut."""
        return sum(self.plan.lengths)

    @property
    def trained_tokens(self) -> int:
        return sum(self.plan.trained)

    @property
    def longest(self) -> int:
        """Tokens of the longest record before the cut."""
        return max((len(record.tokens) for record in self.records), default=0)

    @property
    def truncated(self) -> int:
        """Records that were cut."""
        limit = self.plan.max_seq_length
        return sum(1 for record in self.records if len(record.tokens) > limit)

    def lines(self, batch: Batch) -> tuple[int, ...]:
        """The batch's lines in the file, counted from 1."""
        return tuple(self.split.records[index].line for index in batch.records)

    def arrays(self, batch: Batch) -> tuple[mx.array, mx.array]:
        """The batch for `loss.mean_loss`: tokens (rows, width) and spans (rows, 2)."""
        tokens = np.zeros((len(batch.records), batch.width), np.int32)
        spans = np.zeros((len(batch.records), 2), np.int32)
        for row, index in enumerate(batch.records):
            record, length = self.records[index], self.plan.lengths[index]
            tokens[row, :length] = record.tokens[:length]
            spans[row] = record.first_trained, length
        return mx.array(tokens), mx.array(spans)


def tokenize_split(
    tokenizer: Tokenizer,
    split: Split,
    recipe: Recipe,
    seed: int,
    on_progress: Callable[[int], None],
    keep_going: Callable[[], bool],
) -> TokenizedSplit:
    """Tokenize every record, with a word of the count now and then, until told to leave off.

    Raises `DataError` naming file and line of a record that the chat template refuses.
    """
    records: list[TokenizedRecord] = []
    reported = time.monotonic()
    for record in split.records:
        place = f"{split.path} line {record.line}"
        records.append(tokenize(tokenizer, record.fields, recipe.mask_prompt, place))
        if time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            on_progress(len(records))
            if not keep_going():
                break
    limit = recipe.max_seq_length
    plan = BatchPlan(
        lengths=[record.kept(limit) for record in records],
        trained=[record.trained(limit) for record in records],
        batch_size=recipe.batch_size,
        max_seq_length=limit,
        seed=seed,
    )
    return TokenizedSplit(split, tuple(records), plan)

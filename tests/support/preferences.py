"""Pairs and labelled answers as tokens, for losses that train a preference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxft.compute.training.batches import OverlongCounts, Sequence
from mlxft.compute.training.preference_batches import PreferenceSplit
from mlxft.data.batch_plan import Batch, BatchPlan, padded_width
from mlxft.data.dataset import Split
from mlxft.data.spans import from_index
from mlxft.recipe import TrainingLoss


@dataclass(frozen=True)
class Compared:
    """A prompt with two answers, or one that is labelled."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int] | None
    is_good: bool = True

    def sequence(self, answer: list[int]) -> Sequence:
        """The prompt with one of the answers."""
        tokens = (*self.prompt, *answer)
        return Sequence(0, tokens, from_index(len(self.prompt), len(tokens)))


def split_of(rows: list[Compared], loss: TrainingLoss) -> tuple[PreferenceSplit, Batch]:
    """These rows as a split, and the batch of all of them in order.

    Answers of KTO's mismatched rows are handed on by one, as TRL does it.
    """
    chosen = [each.sequence(each.chosen) for each in rows]
    if loss == "kto":
        others = [each.sequence(rows[at - 1].chosen) for at, each in enumerate(rows)]
    else:
        others = [each.sequence(each.rejected or []) for each in rows]
    lengths = [max(len(a.tokens), len(b.tokens)) for a, b in zip(chosen, others, strict=True)]
    plan = BatchPlan(
        lengths=lengths,
        trained=[each.trained for each in chosen],
        batch_size=len(rows),
        max_seq_length=max(lengths),
        seed=0,
    )
    split = PreferenceSplit(
        split=Split("train", Path("train.jsonl"), (), ()),
        sequences=tuple(chosen),
        others=tuple(others),
        labels=tuple(each.is_good for each in rows) if loss == "kto" else None,
        texts=tuple(from_index(1, len(each.tokens)) for each in chosen) if loss == "orpo" else None,
        reference=np.zeros((len(rows), 2), np.float32),
        plan=plan,
        checksum=0,
        longest=max(lengths),
        overlong=OverlongCounts(),
    )
    width = padded_width(max(lengths), max(lengths))
    return split, Batch(tuple((at,) for at in range(len(rows))), width)

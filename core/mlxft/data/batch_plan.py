"""Which records make each batch of a run: decided by the seed before the run, and pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

WINDOW_BATCHES = 64
"""Batches that are sorted by length together: enough to pad little, few enough to mix well."""

_Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Indices of the records in a batch, and the padded length of its rows in tokens."""

    records: tuple[int, ...]
    width: int


@dataclass
class BatchPlan:
    """Every batch of a run; each trainable record comes once an epoch.

    `lengths` and `trained` are the tokens of each record, cut to `max_seq_length`, and how many of
    them are trained. Records without a trained token are left out.
    """

    lengths: Sequence[int]
    trained: Sequence[int]
    batch_size: int
    max_seq_length: int
    seed: int
    trainable: tuple[int, ...] = field(init=False)
    _epoch: tuple[int, tuple[Batch, ...]] = field(init=False, default=(-1, ()))

    def __post_init__(self) -> None:
        self.trainable = tuple(index for index, count in enumerate(self.trained) if count > 0)

    @property
    def untrainable(self) -> int:
        """Records left out because no token of theirs is trained."""
        return len(self.lengths) - len(self.trainable)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.trainable) // self.batch_size)

    @property
    def padding_share(self) -> float:
        """The share of the first epoch's tokens that are padding."""
        batches = self.epoch(0)
        padded = sum(len(batch.records) * batch.width for batch in batches)
        tokens = sum(self.lengths[index] for batch in batches for index in batch.records)
        return 1 - tokens / padded if padded else 0.0

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.epoch(epoch))
        return self._epoch[1][position]

    def epoch(self, number: int) -> tuple[Batch, ...]:
        """All batches of an epoch in order, counted from 0; the smaller one comes last."""
        random = np.random.default_rng((self.seed, number))
        order = random.permutation(np.asarray(self.trainable, dtype=np.int64))
        even = len(order) - len(order) % self.batch_size
        groups = self._by_length(order[:even])
        groups = groups[random.permutation(len(groups))]
        rest = [order[even:]] if even < len(order) else []
        return tuple(self._made(group) for group in (*groups, *rest))

    def _by_length(self, order: _Indices) -> _Indices:
        """Rows of records of like length, out of windows of the shuffled order."""
        lengths = np.asarray(self.lengths)
        window = self.batch_size * WINDOW_BATCHES
        near = [order[start : start + window] for start in range(0, len(order), window)]
        ordered = [each[np.argsort(lengths[each], kind="stable")] for each in near]
        flat = np.concatenate(ordered) if ordered else order
        return flat.reshape(-1, self.batch_size)

    def _made(self, group: _Indices) -> Batch:
        records = tuple(int(each) for each in group)
        longest = max(self.lengths[index] for index in records)
        return Batch(records, padded_width(longest, self.max_seq_length))


def padded_width(length: int, max_seq_length: int) -> int:
    """One of few row lengths that holds `length` tokens, so that few shapes are compiled.

    One more than a multiple of 16 up to 512, then of 32, 64 … (a row's last token is no input),
    and never above `max_seq_length`.
    """
    inputs = max(length - 1, 1)
    multiple = 16
    while inputs > multiple * 32:
        multiple *= 2
    return min(1 + -(-inputs // multiple) * multiple, max(max_seq_length, 2))

"""Which sequences form each batch of a run, determined by the seed alone; pure.

A sequence is a record, or a piece of one that is longer than a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlxft.recipe import steps_per_epoch

WINDOW_BATCHES = 64
"""Batches sorted by length together: enough to limit padding, few enough to mix well."""

PACKED_TOGETHER = 4096
"""Sequences packed together: enough to fill rows well, few enough to mix well."""

_Integers = NDArray[np.int64]


FEW_INPUTS: Final = 1024
"""Inputs of a batch so small that an H200 waits for the processor's launches with a model of 3B."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """To which shapes batches are rounded up: each new one costs time where steps are compiled.

    Rows have a multiple of `least` inputs, and of twice as many from `multiples` of them on, and so
    on. Trained positions are a multiple of that part of the inputs which `parts` says, or
    `parts_of_few` for at most `FEW_INPUTS`; without parts they are rounded up like a row's inputs.
    """

    least: int = 8
    multiples: int = 32
    parts: int | None = None
    parts_of_few: int | None = None


USUAL: Final = Rounding()

_ROUNDING: Final[dict[str, Rounding]] = {
    "cpu": USUAL,
    "metal": Rounding(multiples=16, parts=8, parts_of_few=8),
    "cuda": Rounding(least=32, multiples=16, parts=8, parts_of_few=2),
}
"""A CPU computes operations one by one. On an H200 a new shape took 0.4 s longer than a known one,
and of a step of 4 × 96 tokens, 105 ms, the GPU was busy for 31: padding costs it little."""


@dataclass(frozen=True)
class Batch:
    """The sequence indices in each row, and the padded row length in tokens."""

    rows: tuple[tuple[int, ...], ...]
    width: int

    @property
    def sequences(self) -> tuple[int, ...]:
        """All sequences of the batch, row by row."""
        return tuple(chain.from_iterable(self.rows))


@dataclass(kw_only=True)
class BatchPlan:
    """All batches of a run; each trainable sequence appears once per epoch.

    `lengths` are the tokens of each sequence, at most `max_seq_length`, and `trained` how many of
    them are targets. Sequences without a target are skipped. A row is one sequence, or with
    `packing` as many as fit; rows are the same in every epoch, so that all epochs have equally many
    steps. `batch_size` counts rows.
    """

    lengths: Sequence[int]
    trained: Sequence[int]
    batch_size: int
    max_seq_length: int
    seed: int
    packing: bool = False
    rounding: Rounding = USUAL
    rows: tuple[tuple[int, ...], ...] = field(init=False)
    trainable: int = field(init=False)
    _row_lengths: _Integers = field(init=False)
    _epoch: tuple[int, tuple[Batch, ...]] = field(init=False, default=(-1, ()))

    def __post_init__(self) -> None:
        lengths = np.asarray(self.lengths, np.int64)
        trainable = np.flatnonzero(np.asarray(self.trained, np.int64) > 0)
        self.trainable = len(trainable)
        if self.packing:
            order = np.random.default_rng(self.seed).permutation(trainable)
            self.rows = packed(lengths, order, self.max_seq_length)
        else:
            self.rows = tuple((index,) for index in trainable.tolist())
        self._row_lengths = _sums(lengths, self.rows)

    @property
    def untrainable(self) -> int:
        """Sequences skipped because none of their tokens is trained."""
        return len(self.lengths) - self.trainable

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return steps_per_epoch(len(self.rows), self.batch_size)

    @property
    def padding_share(self) -> float:
        """The share of the first epoch's tokens that are padding."""
        padded = sum(len(batch.rows) * batch.width for batch in self.epoch(0))
        return 1 - int(self._row_lengths.sum()) / padded if padded else 0.0

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.epoch(epoch))
        return self._epoch[1][position]

    def epoch(self, number: int) -> tuple[Batch, ...]:
        """All batches of an epoch, counted from 0, in order; a smaller one comes last."""
        random = np.random.default_rng((self.seed, number))
        order = random.permutation(len(self.rows))
        even = len(order) - len(order) % self.batch_size
        groups = self._by_length(order[:even])
        groups = groups[random.permutation(len(groups))]
        rest = [order[even:]] if even < len(order) else []
        return tuple(self._batch(group) for group in (*groups, *rest))

    def _by_length(self, order: _Integers) -> _Integers:
        """Batches of rows of similar length, taken from windows of the shuffled order."""
        window = self.batch_size * WINDOW_BATCHES
        near = [order[start : start + window] for start in range(0, len(order), window)]
        ordered = [each[np.argsort(self._row_lengths[each], kind="stable")] for each in near]
        flat = np.concatenate(ordered) if ordered else order
        return flat.reshape(-1, self.batch_size)

    def _batch(self, group: _Integers) -> Batch:
        rows = tuple(self.rows[index] for index in group)
        longest = int(self._row_lengths[group].max())
        return Batch(rows, padded_width(longest, self.max_seq_length, self.rounding))


def dealt(batch: Batch, ranks: int) -> tuple[Batch, ...]:
    """The batch's rows dealt to so many ranks in order, in rows of the same width.

    Where they don't come out even the first ranks get one more, and with fewer rows than ranks the
    last get none.
    """
    each, more = divmod(len(batch.rows), ranks)
    ends = [each * (rank + 1) + min(rank + 1, more) for rank in range(ranks)]
    return tuple(
        Batch(batch.rows[start:end], batch.width)
        for start, end in zip([0, *ends], ends, strict=False)
    )


def packed(lengths: _Integers, order: _Integers, row_length: int) -> tuple[tuple[int, ...], ...]:
    """Rows of sequences whose total length is at most `row_length` tokens.

    First-fit decreasing within windows of the given order: at most about 11/9 of the optimal number
    of rows (Johnson 1973), with long and short sequences mixed.
    """
    rows: list[tuple[int, ...]] = []
    for start in range(0, len(order), PACKED_TOGETHER):
        near = order[start : start + PACKED_TOGETHER]
        falling = near[np.argsort(-lengths[near], kind="stable")]
        free = np.full(len(near), row_length, np.int64)
        filled: list[list[int]] = []
        for index in falling.tolist():
            row = int(np.argmax(free >= lengths[index]))
            if row == len(filled):
                filled.append([])
            filled[row].append(index)
            free[row] -= lengths[index]
        rows += map(tuple, filled)
    return tuple(rows)


def _sums(lengths: _Integers, rows: Sequence[tuple[int, ...]]) -> _Integers:
    """The tokens of each row."""
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    sequences = np.fromiter(chain.from_iterable(rows), np.int64)
    return np.diff(np.cumsum(lengths[sequences])[ends - 1], prepend=0)


def rounding_on(backend: str) -> Rounding:
    """How batches are rounded up on a backend; as on a CPU where it isn't known."""
    return _ROUNDING.get(backend, USUAL)


def padded_width(length: int, max_seq_length: int, rounding: Rounding = USUAL) -> int:
    """`length` rounded up to one of few row lengths, but at most to `max_seq_length`.

    They are one more than a round number: a row's last token is not an input.
    """
    inputs, multiple = max(length - 1, 1), rounding.least
    while inputs > multiple * rounding.multiples:
        multiple *= 2
    return min(1 + -(-inputs // multiple) * multiple, max(max_seq_length, 2))


def padded_count(count: int, inputs: int, rounding: Rounding = USUAL) -> int:
    """The number of trained positions of a batch of so many inputs, rounded up."""
    parts = rounding.parts_of_few if inputs <= FEW_INPUTS else rounding.parts
    if parts is None:
        return padded_width(count + 1, inputs + 1, rounding) - 1
    part = max(1, -(-inputs // parts))
    return min(max(1, -(-count // part)) * part, inputs)

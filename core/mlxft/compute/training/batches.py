"""A dataset as tokens, and its batches as arrays."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft.compute import backend
from mlxft.compute.tokenization import (
    TokenizedRecord,
    Tokenizer,
    check_vocabulary,
    tokenize,
)
from mlxft.compute.training.place import Place
from mlxft.data import spans
from mlxft.data.batch_plan import Batch, BatchPlan, padded_count, rounding_on
from mlxft.data.dataset import Record, Split
from mlxft.data.rendering import Loss
from mlxft.data.spans import Spans
from mlxft.data.truncation import Piece
from mlxft.errors import DataError
from mlxft.recipe import Recipe

ROUNDING: Final = rounding_on(backend.kind())
"""To which shapes batches are rounded up."""

_SECONDS_BETWEEN_REPORTS = 0.25


class TrainedTokens(Protocol):
    """What the model computes of a batch: rows of tokens, and the positions that are trained."""

    @property
    def tokens(self) -> mx.array:
        """(rows, width), padded with 0 at the end."""

    @property
    def positions(self) -> mx.array:
        """(n,): indices into the rows × (width − 1) inputs whose next token is trained."""

    @property
    def segments(self) -> mx.array | None:
        """(rows, width) of packed rows: each token's record, from 1; 0 for padding."""

    @property
    def targets(self) -> mx.array:
        """(n,): the token to predict at each position."""


class BatchArrays(NamedTuple):
    """A batch as the loss takes it."""

    tokens: mx.array
    """(rows, width), padded with 0 at the end."""
    positions: mx.array
    """(n,): indices into the rows × (width − 1) inputs whose next token is trained; padded with 0
    to one of few sizes."""
    weights: mx.array
    """(n,) float32: each position's weight in the loss, 0 for padding."""
    target_count: mx.array
    """(): how many of the positions are real."""
    total_weight: mx.array
    """() float32: the sum of the weights, of the whole batch where the rows are a part of it."""
    segments: mx.array | None = None
    """(rows, width) of packed rows: each token's record, from 1; 0 for padding."""
    record_lengths: mx.array | None = None
    """(rows, width): the tokens of each token's record, 0 for padding; None if not known."""
    place: Place | None = None
    """Where the rows are in their batch, if they are one rank's part of it."""

    @property
    def targets(self) -> mx.array:
        """(n,): the token to predict at each position."""
        return self.tokens[:, 1:].reshape(-1)[self.positions]


def batch_arrays(
    tokens: NDArray[np.int32],
    trained: NDArray[np.bool_] | NDArray[np.float32],
    segments: NDArray[np.int32] | None = None,
    record_lengths: NDArray[np.int32] | None = None,
) -> BatchArrays:
    """The arrays of a batch; `trained` (rows, width) has each token's weight as a target, or marks
    the tokens of weight 1."""
    targets = trained[:, 1:].reshape(-1)
    positions = np.flatnonzero(targets)
    size = padded_count(len(positions), len(targets), ROUNDING)
    filled, weights = np.zeros(size, np.int32), np.zeros(size, np.float32)
    filled[: len(positions)] = positions
    weights[: len(positions)] = targets[positions]
    return BatchArrays(
        tokens=mx.array(tokens),
        positions=mx.array(filled),
        weights=mx.array(weights),
        target_count=mx.array(len(positions), mx.int32),
        total_weight=mx.array(weights.sum(dtype=np.float64), mx.float32),
        segments=None if segments is None else mx.array(segments),
        record_lengths=None if record_lengths is None else mx.array(record_lengths),
    )


@dataclass(frozen=True)
class Sequence:
    """Consecutive tokens: a record, or a piece of one that is too long."""

    record: int
    """The index of its record."""
    tokens: tuple[int, ...]
    spans: Spans

    @property
    def trained(self) -> int:
        """How many of the tokens are targets."""
        return spans.count(self.spans)


@dataclass(frozen=True)
class OverlongCounts:
    """How many records were longer than max_seq_length, by what was done with them."""

    truncated: int = 0
    split: int = 0
    dropped: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.truncated + self.split + self.dropped


@dataclass(frozen=True, kw_only=True)
class TokenizedSplit:
    """A split as sequences of tokens, with its batch plan."""

    split: Split
    sequences: tuple[Sequence, ...]
    plan: BatchPlan
    checksum: int
    """CRC-32 of what is trained, in order: equal data in equal order have equal checksums."""
    longest: int
    """Tokens of the longest record, before truncation."""
    overlong: OverlongCounts
    trained_as: int = 0
    """Records as they are trained: several of a conversation where answers see it differently."""
    losses: Mapping[Loss, int] = field(default_factory=dict)
    """Of how many records the chat template leaves something out."""
    doubled: int = 0
    """How many records begin with two beginning tokens or end with two end tokens."""
    refused: tuple[str, ...] = ()
    """A sentence for each record omitted because the chat template refuses it."""

    @property
    def tokens(self) -> int:
        """Tokens after truncation."""
        return sum(self.plan.lengths)

    @property
    def trained_tokens(self) -> int:
        return sum(self.plan.trained)

    def lines(self, batch: Batch) -> tuple[int, ...]:
        """The batch's lines in the file, counted from 1."""
        records = dict.fromkeys(self.sequences[index].record for index in batch.sequences)
        return tuple(self.split.records[index].line for index in records)

    def arrays(self, batch: Batch) -> BatchArrays:
        """The batch as arrays."""
        shape = (len(batch.rows), batch.width)
        tokens, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        lengths, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for number, row in enumerate(batch.rows):
            start = 0
            for segment, index in enumerate(row, 1):
                sequence = self.sequences[index]
                stop = start + len(sequence.tokens)
                tokens[number, start:stop] = sequence.tokens
                segments[number, start:stop] = segment
                lengths[number, start:stop] = len(sequence.tokens)
                for first, last, weight in sequence.spans:
                    weights[number, start + first : start + last] = weight
                start = stop
        return batch_arrays(tokens, weights, segments if self.plan.packing else None, lengths)


@dataclass(kw_only=True)
class CollectedRecords:
    """What is found while a split's records are tokenized; `refused` are those omitted."""

    losses: Counter[Loss] = field(default_factory=Counter)
    refused: list[DataError] = field(default_factory=list)
    longest: int = 0
    doubled: int = 0
    overlong: int = 0

    def take_all(
        self,
        split: Split,
        recipe: Recipe,
        take: Callable[[int, Record, str], None],
        on_progress: Callable[[int], None],
        keep_going: Callable[[], bool],
    ) -> None:
        """Call `take` with index, record and place of each record, or until `keep_going` is False.

        Raises the `DataError` of a record that can't be trained, unless the recipe omits those.
        """
        reported = time.monotonic()
        for index, record in enumerate(split.records):
            try:
                take(index, record, f"{split.path} line {record.line}")
            except DataError as error:
                if recipe.faulty_records == "refuse":
                    raise
                self.refused.append(error)
            if time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                on_progress(index + 1)
                if not keep_going():
                    break

    def overlong_counts(self, recipe: Recipe) -> OverlongCounts:
        """The records that are too long, as what the recipe does with them."""
        match recipe.overlong:
            case "truncate":
                return OverlongCounts(truncated=self.overlong)
            case "split":
                return OverlongCounts(split=self.overlong)
            case "drop":
                return OverlongCounts(dropped=self.overlong)


@dataclass(kw_only=True)
class _Collected(CollectedRecords):
    """The sequences of a split while its records are tokenized."""

    sequences: list[Sequence] = field(default_factory=list)
    checksum: int = 0
    trained_as: int = 0


def tokenize_split(
    tokenizer: Tokenizer,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    vocabulary: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    keep_going: Callable[[], bool] = lambda: True,
) -> TokenizedSplit:
    """Tokenize every record, or those until `keep_going` returns False.

    `on_progress` gets the number done, a few times a second. Raises `DataError` with file and line
    of a record that the chat template refuses or that has tokens beyond the model's `vocabulary`,
    unless the recipe omits faulty records and others remain.
    """
    found = _Collected()

    def take(index: int, record: Record, place: str) -> None:
        tokenized = tokenize(tokenizer, record.fields, recipe, place)
        for each in tokenized:
            check_vocabulary(each.tokens, vocabulary, place)
        _add(found, index, tokenized, recipe)

    found.take_all(split, recipe, take, on_progress, keep_going)
    if found.refused and not found.sequences:
        raise found.refused[0]
    return _planned(found, split, recipe, seed)


def _add(
    found: _Collected, index: int, tokenized: tuple[TokenizedRecord, ...], recipe: Recipe
) -> None:
    """Add a record as it is trained: as several sequences, or truncated, or not at all."""
    found.trained_as += len(tokenized)
    found.losses.update({loss for each in tokenized for loss in each.losses})
    found.doubled += any(each.doubled for each in tokenized)
    for each in tokenized:
        found.longest = max(found.longest, len(each.tokens))
        found.overlong += len(each.tokens) > recipe.max_seq_length
        for piece in each.pieces(recipe.max_seq_length, recipe.overlong):
            found.sequences.append(Sequence(index, piece.of(each.tokens), piece.spans))
            found.checksum = _continued(found.checksum, found.sequences[-1], each, piece)


def _planned(found: _Collected, split: Split, recipe: Recipe, seed: int) -> TokenizedSplit:
    plan = BatchPlan(
        lengths=[len(sequence.tokens) for sequence in found.sequences],
        trained=[sequence.trained for sequence in found.sequences],
        batch_size=recipe.batch_size,
        max_seq_length=recipe.max_seq_length,
        seed=seed,
        packing=recipe.packing,
        rounding=ROUNDING,
    )
    return TokenizedSplit(
        split=split,
        sequences=tuple(found.sequences),
        plan=plan,
        checksum=found.checksum,
        trained_as=found.trained_as,
        longest=found.longest,
        overlong=found.overlong_counts(recipe),
        losses=found.losses,
        doubled=found.doubled,
        refused=tuple(str(error) for error in found.refused),
    )


def _continued(checksum: int, sequence: Sequence, record: TokenizedRecord, piece: Piece) -> int:
    """The checksum with one more sequence.

    A record of which everything from one token on is trained at weight 1 gives the number that it
    had when checkpoints knew no others.
    """
    first = record.spans[0].start if record.spans else len(record.tokens)
    if record.spans in ((), spans.from_index(first, len(record.tokens))):
        head = [max(1, first - piece.start)]
    else:
        flat = np.asarray(sequence.spans, np.float32).view(np.int32)
        head = [-len(sequence.spans), *flat.reshape(-1).tolist()]
    return zlib.crc32(np.asarray((*head, *sequence.tokens), np.int32).tobytes(), checksum)

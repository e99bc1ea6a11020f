"""A split whose answers are compared, as tokens: pairs, or answers labelled good or bad."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft import recipe as recipes
from mlxft.compute.tokenization import TokenizedRecord, Tokenizer, check_vocabulary, tokenize
from mlxft.compute.training.batches import ROUNDING, CollectedRecords, TokenizedSplit
from mlxft.compute.training.batches import (
    Sequence as TokenSequence,
)
from mlxft.compute.training.pair_arrays import PairArrays
from mlxft.data.batch_plan import Batch, BatchPlan, padded_count, padded_width
from mlxft.data.dataset import Record, Split
from mlxft.data.spans import Spans, from_index
from mlxft.recipe import Recipe

_PAIRS_PADDED: Final = 8
"""Packed rows hold any number of pairs, which is padded to a multiple, so that few shapes are
compiled."""


@dataclass(frozen=True, kw_only=True)
class PreferenceSplit(TokenizedSplit):
    """A split as answers to compare; `sequences` are the chosen or the labelled ones.

    `others` belongs to them one by one: the rejected answers, or with labels those of other
    records after their prompts, from which KTO estimates the KL divergence. `texts` is what of each
    chosen sequence ORPO trains as text, None for other losses.
    """

    others: tuple[TokenSequence, ...]
    labels: tuple[bool, ...] | None = None
    texts: tuple[Spans, ...] | None = None
    reference: NDArray[np.float32]
    """(sequences, 2): log-probabilities before training of each answer and its other, to be filled
    in; 0 for losses without a reference."""

    @property
    def tokens(self) -> int:
        """Tokens after truncation, of both answers of each pair."""
        found = sum(len(each.tokens) for each in self.sequences)
        rest = () if self.labels is not None else self.others
        return found + sum(len(each.tokens) for each in rest)

    @property
    def trained_tokens(self) -> int:
        found = sum(each.trained for each in self.sequences)
        return found + (0 if self.labels is not None else sum(e.trained for e in self.others))

    def arrays(self, batch: Batch) -> PairArrays:  # type: ignore[override]
        """The batch as arrays."""
        indices = list(batch.sequences)
        if self.labels is None:
            placed = self._packed(batch) if self.plan.packing else self._in_rows(batch)
            return self._arrays(placed, indices, batch.width)
        rows = [[(index, self.sequences[at], 1)] for index, at in enumerate(indices)]
        mismatched = [[(index, self.others[at], 1)] for index, at in enumerate(indices)]
        longest = max(len(self.others[at].tokens) for at in indices)
        width = padded_width(longest, self.plan.max_seq_length, ROUNDING)
        return self._arrays(rows, indices, batch.width)._replace(
            mismatched=self._arrays(mismatched, indices, width)._replace(
                reference=mx.array(self.reference[indices, 1])
            )
        )

    def keep_reference(self, batch: Batch, logps: NDArray[np.float32], *, other: bool) -> None:
        """Fill in the reference of a batch's answers; with labels, of their `other` ones."""
        indices = list(batch.sequences)
        if self.labels is not None:
            self.reference[indices, int(other)] = logps
            return
        chosen, rejected = np.split(logps, 2)
        self.reference[indices, 0] = chosen[: len(indices)]
        self.reference[indices, 1] = rejected[: len(indices)]

    def _in_rows(self, batch: Batch) -> _Placed:
        """All chosen answers, then all rejected ones, each in a row of its own."""
        indices = batch.sequences
        chosen = [[(number, self.sequences[at], 1)] for number, at in enumerate(indices)]
        count = len(indices)
        return chosen + [[(count + n, self.others[at], 1)] for n, at in enumerate(indices)]

    def _packed(self, batch: Batch) -> _Placed:
        """Both answers of a pair next to each other, with other pairs in the same row."""
        count, number = _padded(len(batch.sequences)), 0
        placed: _Placed = []
        for row in batch.rows:
            placed.append([])
            for segment, at in enumerate(row):
                placed[-1] += [
                    (number, self.sequences[at], 2 * segment + 1),
                    (count + number, self.others[at], 2 * segment + 2),
                ]
                number += 1
        return placed

    def _arrays(self, placed: _Placed, indices: list[int], width: int) -> PairArrays:
        shape = (len(placed), width)
        tokens, segments, answers, lengths = (np.zeros(shape, np.int32) for _ in range(4))
        answered, text = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for number, row in enumerate(placed):
            start = 0
            for answer, sequence, segment in row:
                stop = start + len(sequence.tokens)
                tokens[number, start:stop] = sequence.tokens
                segments[number, start:stop] = segment
                answers[number, start:stop] = answer
                lengths[number, start:stop] = len(sequence.tokens)
                for first, last, _ in sequence.spans:
                    answered[number, start + first : start + last] = 1
                if self.texts is not None and answer < len(indices):
                    for first, last, weight in self.texts[indices[answer]]:
                        text[number, start + first : start + last] = weight
                start = stop
        packing = self.plan.packing and self.labels is None
        pairs = _padded(len(indices)) if packing else len(indices)
        real = np.arange(pairs) < len(indices)
        positions = np.flatnonzero((answered + text)[:, 1:])
        inputs = tokens.shape[0] * (tokens.shape[1] - 1)
        filled = np.zeros(padded_count(len(positions), inputs, ROUNDING), np.int64)
        filled[: len(positions)] = positions
        is_real = np.arange(len(filled)) < len(positions)

        def at_positions(values: NDArray[np.float32]) -> mx.array:
            return mx.array((values[:, 1:].reshape(-1)[filled] * is_real).astype(np.float32))

        return PairArrays(
            tokens=mx.array(tokens),
            positions=mx.array(filled.astype(np.int32)),
            target_count=mx.array(len(positions), mx.int32),
            answers=mx.array(answers[:, 1:].reshape(-1)[filled]),
            answer_weights=at_positions(answered),
            text_weights=at_positions(text),
            reference=mx.array(self._reference_of(indices, pairs)),
            real=mx.array(real.astype(np.float32)),
            labels=mx.array(self._labels_of(indices)),
            kl=mx.array(0.0, mx.float32),
            segments=mx.array(segments) if packing else None,
            record_lengths=mx.array(lengths),
        )

    def _reference_of(self, indices: list[int], pairs: int) -> NDArray[np.float32]:
        if self.labels is not None:
            return self.reference[indices, 0]
        found = np.zeros((2, pairs), np.float32)
        found[:, : len(indices)] = self.reference[indices].T
        return found.reshape(-1)

    def _labels_of(self, indices: list[int]) -> NDArray[np.float32]:
        labels = self.labels
        return np.array([] if labels is None else [labels[at] for at in indices], np.float32)


_Placed = list[list[tuple[int, TokenSequence, int]]]
"""Rows of a batch: the number of each answer, its tokens, and its segment in the row."""


def _padded(pairs: int) -> int:
    return -(-pairs // _PAIRS_PADDED) * _PAIRS_PADDED


@dataclass
class _Collected(CollectedRecords):
    """The sequences of a split while its records are tokenized."""

    sequences: list[TokenSequence] = field(default_factory=list)
    others: list[TokenSequence] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    texts: list[Spans] = field(default_factory=list)


def tokenize_answers(
    tokenizer: Tokenizer,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    vocabulary: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    keep_going: Callable[[], bool] = lambda: True,
) -> PreferenceSplit:
    """Tokenize every record's answers, or those until `keep_going` returns False.

    `on_progress` gets the number done, a few times a second. Raises `DataError` as
    `tokenize_split` does.
    """
    found = _Collected()

    def take(index: int, record: Record, place: str) -> None:
        _add(found, tokenizer, index, record, recipe, vocabulary, place)

    found.take_all(split, recipe, take, on_progress, keep_going)
    if found.refused and not found.sequences:
        raise found.refused[0]
    return _planned(found, split, recipe, seed)


def _add(
    found: _Collected,
    tokenizer: Tokenizer,
    index: int,
    record: Record,
    recipe: Recipe,
    vocabulary: int | None,
    place: str,
) -> None:
    """Tokenize one record's answers; one that is too long is truncated, or left out."""
    written = [each for each in (record.fields, record.rejected) if each is not None]
    answers = recipes.replace(recipe, "train_on", "last_answer")
    sides = [tokenize(tokenizer, each, answers, place)[-1] for each in written]
    if len(sides) == 2:
        sides = _without_common_text(sides)
    for each in sides:
        check_vocabulary(each.tokens, vocabulary, place)
        found.losses.update(each.losses)
        found.longest = max(found.longest, len(each.tokens))
    found.doubled += any(each.doubled for each in sides)
    found.overlong += any(len(each.tokens) > recipe.max_seq_length for each in sides)
    kept = [
        TokenSequence(index, piece.of(each.tokens), piece.spans)
        for each in sides
        for piece in each.pieces(recipe.max_seq_length, recipe.overlong)
    ]
    if len(kept) < len(sides):
        return
    found.sequences.append(kept[0])
    found.others.append(kept[-1])
    found.labels.append(record.is_good)
    if recipe.loss == "orpo":
        text = tokenize(tokenizer, record.fields, recipe, place)[-1]
        found.texts.append(text.pieces(recipe.max_seq_length, recipe.overlong)[0].spans)


def _without_common_text(sides: list[TokenizedRecord]) -> list[TokenizedRecord]:
    """Plain texts without a prompt, trained from the first token that differs on."""
    if any(each.text is not None for each in sides):
        return sides
    pairs = zip(sides[0].tokens, sides[1].tokens, strict=False)
    shortest = min(len(each.tokens) for each in sides)
    common = next((at for at, (a, b) in enumerate(pairs) if a != b), shortest)
    return [replace(each, spans=from_index(max(1, common), len(each.tokens))) for each in sides]


def _planned(found: _Collected, split: Split, recipe: Recipe, seed: int) -> PreferenceSplit:
    chosen, others = found.sequences, found.others
    labelled = recipe.loss == "kto"
    rows = 1 if labelled or not recipe.packing else 2
    both = list(zip(chosen, others, strict=True))
    lengths = [len(a.tokens) for a in chosen]
    if not labelled:
        join = sum if recipe.packing else max
        lengths = [join((len(a.tokens), len(b.tokens))) for a, b in both]
    trained = [a.trained + b.trained if a.trained and b.trained else 0 for a, b in both]
    plan = BatchPlan(
        lengths=lengths,
        trained=[a.trained for a in chosen] if labelled else trained,
        batch_size=recipe.batch_size,
        # A packed row holds both answers of a pair.
        max_seq_length=rows * recipe.max_seq_length,
        seed=seed,
        packing=recipe.packing,
        rounding=ROUNDING,
    )
    return PreferenceSplit(
        split=split,
        sequences=tuple(chosen),
        others=_mismatched(plan, chosen, recipe.max_seq_length) if labelled else tuple(others),
        labels=tuple(found.labels) if labelled else None,
        texts=tuple(found.texts) if recipe.loss == "orpo" else None,
        reference=np.zeros((len(chosen), 2), np.float32),
        plan=plan,
        checksum=_checksum(found),
        longest=found.longest,
        overlong=found.overlong_counts(recipe),
        losses=found.losses,
        doubled=found.doubled,
        refused=tuple(str(error) for error in found.refused),
    )


def _checksum(found: _Collected) -> int:
    """CRC-32 of all answers in order, of which of their tokens are trained, and of their labels."""
    checksum = zlib.crc32(bytes(found.labels))
    for each in (*found.sequences, *found.others):
        checksum = zlib.crc32(np.asarray(each.tokens, np.int32).tobytes(), checksum)
        checksum = zlib.crc32(np.asarray(each.spans, np.float32).tobytes(), checksum)
    return checksum


def _mismatched(
    plan: BatchPlan, sequences: Sequence[TokenSequence], limit: int
) -> tuple[TokenSequence, ...]:
    """Each prompt with the answer of another record, as TRL pairs them.

    Answers are handed on by one within each batch of the first epoch, so that there the mismatched
    answers of a batch are its own. A batch of one record takes the answer of the one before it.
    """
    answer_of = list(range(len(sequences)))
    before: int | None = None
    for batch in plan.epoch(0) if plan.trainable else ():
        indices = batch.sequences
        for number, at in enumerate(indices):
            alone = len(indices) == 1 and before is not None
            answer_of[at] = before if alone and before is not None else indices[number - 1]
        before = indices[-1]
    return tuple(
        _with_answer(sequences[at], sequences[other], limit) for at, other in enumerate(answer_of)
    )


def _with_answer(asked: TokenSequence, other: TokenSequence, limit: int) -> TokenSequence:
    prompt = asked.tokens[: _prompt_length(asked)]
    tokens = (*prompt, *other.tokens[_prompt_length(other) :])[:limit]
    return TokenSequence(asked.record, tokens, from_index(len(prompt), len(tokens)))


def _prompt_length(sequence: TokenSequence) -> int:
    """The tokens before the answer."""
    return sequence.spans[0].start if sequence.spans else len(sequence.tokens)

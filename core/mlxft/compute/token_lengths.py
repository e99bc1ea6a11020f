"""Measure the token lengths of a file's records: first of a sample, then of all."""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from mlxft import recipe as recipes
from mlxft.compute.tokenization import (
    TemplateError,
    TokenizedRecord,
    Tokenizer,
    tokenize,
)
from mlxft.data.columns import Columns
from mlxft.data.compared import Answered, answered
from mlxft.data.faults import Problem
from mlxft.data.index import LineIndex
from mlxft.data.record_checks import mask_problem
from mlxft.data.token_statistics import (
    DATED,
    DOUBLED,
    END_ADDED,
    LOSS_MARKS,
    PROMPT_APART,
    SPAN_ROW,
    TokenLengths,
)
from mlxft.data.validation import RecordLine, scan
from mlxft.recipe import Recipe

SAMPLE: Final = 400
"""Records measured for a first estimate: enough for the mean to a few percent."""

SLICE_SECONDS: Final = 0.05
"""How long one step may take, since others may wait for the tokenizer."""


def measure(
    tokenizer: Tokenizer,
    path: Path,
    recipe: Recipe,
    *,
    whole: bool,
    vocabulary: int | None = None,
) -> Iterator[TokenLengths | int]:
    """Measure a file in steps of `SLICE_SECONDS`.

    Yields the number of lines done, and lengths when there are new ones: of a sample, and with
    `whole` of all records. Records that can't be trained are skipped, as are those with tokens
    beyond the model's `vocabulary`. Raises `DataError` if the
    file can't be read.
    """
    lengths = _Lengths(tokenizer, recipe, vocabulary)
    with LineIndex(path) as index:
        for _ in index.build():
            yield 0
        lines = len(index)
        if lines > 2 * SAMPLE or not whole:
            yield from _sampled(lengths, index, recipe.columns)
    if whole:
        lengths = _Lengths(tokenizer, recipe, vocabulary)
        yield from lengths.take(scan(path, recipe.columns))
        yield lengths.found(lengths.trainable)


def _sampled(lengths: _Lengths, index: LineIndex, columns: Columns) -> Iterator[TokenLengths | int]:
    drawn = random.Random(0).sample(range(len(index)), min(SAMPLE, len(index)))
    yield from lengths.take(index.line(position, columns) for position in sorted(drawn))
    yield lengths.found(round(len(index) * lengths.trainable / max(1, len(drawn))))


class _Lengths:
    """Collects lengths."""

    def __init__(self, tokenizer: Tokenizer, recipe: Recipe, vocabulary: int | None) -> None:
        self._tokenizer = tokenizer
        self._recipe = recipe
        self._vocabulary = vocabulary
        self._lengths: array[int] = array("I")
        self._spans = array("I")
        self._weights = array("f")
        self._lines: array[int] = array("I")
        self._marks: array[int] = array("I")
        self._refused: array[int] = array("I")
        self._unmasked: array[int] = array("I")
        self._foreign: array[int] = array("I")
        self._refusal = ""
        self._records = 0

    @property
    def trainable(self) -> int:
        """How many records were measured."""
        return self._records

    def take(self, lines: Iterable[RecordLine]) -> Iterator[int]:
        """Measure these lines, regularly yielding how many are done."""
        paused = time.monotonic()
        for done, line in enumerate(lines, 1):
            found = answered(line, self._recipe.loss)
            for each in () if isinstance(found, Problem) else found:
                self._measure(line.number, each)
            if time.monotonic() - paused >= SLICE_SECONDS:
                yield done
                paused = time.monotonic()

    def _measure(self, line: int, found: Answered) -> None:
        """Measure a record; of a pair the longer side, since both rows are padded to it."""
        compares = self._recipe.loss != "sft"
        chooses = self._recipe.train_on != "everything"
        if chooses and not compares and mask_problem(found.fields):
            self._unmasked.append(line)
            return
        sides = [each for each in (found.fields, found.rejected) if each is not None]
        try:
            if compares:
                answers = recipes.replace(self._recipe, "train_on", "last_answer")
                both = [tokenize(self._tokenizer, each, answers)[-1] for each in sides]
                records: tuple[TokenizedRecord, ...] = (max(both, key=lambda e: len(e.tokens)),)
            else:
                records = tokenize(self._tokenizer, found.fields, self._recipe)
        except TemplateError as error:
            self._refusal = self._refusal or error.reason
            self._refused.append(line)
            return
        highest = max(max(each.tokens, default=0) for each in records)
        if self._vocabulary is not None and highest >= self._vocabulary:
            self._foreign.append(line)
            return
        # Both answers of a pair may be measured apart; the line is one record.
        self._records += line not in self._lines[-1:]
        for record in records:
            self._add(line, record)

    def _add(self, line: int, record: TokenizedRecord) -> None:
        apart = 0 if record.prompt_is_prefix else PROMPT_APART
        of_template = sum(LOSS_MARKS[loss] for loss in record.losses)
        of_template |= DATED if record.dated else 0
        of_template |= DOUBLED if record.doubled else 0
        self._lines.append(line)
        self._marks.append(apart | (END_ADDED if record.end_added else 0) | of_template)
        self._lengths.append(len(record.tokens))
        for start, stop, weight in record.spans:
            self._spans.extend((len(self._lengths) - 1, start, stop))
            self._weights.append(weight)

    def found(self, records: int) -> TokenLengths:
        """The lengths, of a file with this many records."""
        spans = np.zeros(len(self._weights), SPAN_ROW)
        spans["record"], spans["start"], spans["stop"] = np.reshape(self._spans, (-1, 3)).T
        spans["weight"] = self._weights
        return TokenLengths(
            lengths=np.array(self._lengths, np.uint32),
            spans=spans,
            records=records,
            lines=np.array(self._lines, np.uint32),
            marks=np.array(self._marks, np.uint32),
            refused=np.array(self._refused, np.uint32),
            unmasked=np.array(self._unmasked, np.uint32),
            foreign=np.array(self._foreign, np.uint32),
            refusal=self._refusal,
        )

"""A file's records in tokens: what is trained, cut and padded; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlxft.data.batch_plan import BatchPlan
from mlxft.data.statistics import histogram
from mlxft.data.token_figures import TokenFigures
from mlxft.data.truncation import pieces
from mlxft.data.validation import NO_PROMPT, Fault, Problem
from mlxft.recipe import Overlong, Recipe, steps_per_epoch

BINS: Final = 60
"""More columns would make bins of a few records each look like a pattern."""

PROMPT_APART: Final = 1
"""The mark of a record that its open prompt doesn't begin."""

END_ADDED: Final = 2
"""The mark of a record whose answer the chat template leaves without an end."""

MOST_NAMED: Final = 1000
"""Records of a kind that are named."""

_CERTAINTY: Final = 1.96
"""Standard errors to each side that hold the true mean 95 times of 100."""


@dataclass(frozen=True, eq=False)
class TokenLengths:
    """Tokens of each record before any cut, and the index of its first trained one.

    `records` is how many the file has; fewer lengths than that are a random sample. `lines` and
    `marks` (of `PROMPT_APART`, `END_ADDED`) are those of the same records, `refused` the lines
    that the chat template refuses, and `unmasked` those without the prompt that shall be masked.
    """

    lengths: NDArray[np.uint32]
    first_trained: NDArray[np.uint32]
    records: int
    lines: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    marks: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    refused: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    unmasked: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))

    @property
    def whole(self) -> bool:
        """Whether every record was measured."""
        return len(self.lengths) == self.records


def token_figures(found: TokenLengths, recipe: Recipe, file: str = "") -> TokenFigures:
    """The figures of these lengths under a recipe; `file` is where they are from."""
    limit = recipe.max_seq_length
    lengths = found.lengths.astype(np.int64)
    fitted = [
        piece
        for length, first in zip(lengths.tolist(), found.first_trained.tolist(), strict=True)
        for piece in pieces(length, first, limit, recipe.overlong)
    ]
    trained = [piece.trained for piece in fitted]
    kept = [piece.length for piece in fitted]
    plan = BatchPlan(kept, trained, recipe.batch_size, limit, recipe.seed, recipe.packing)
    measured = len(lengths)
    scale = found.records / measured if measured else 0.0
    rows = math.ceil(len(plan.rows) * scale)
    lost = int(lengths.sum()) - sum(kept) if recipe.overlong != "split" else 0
    return TokenFigures(
        records=found.records,
        measured=measured,
        tokens=round(int(lengths.sum()) * scale),
        tokens_spread=0 if found.whole else _spread(lengths, found.records),
        longest=int(lengths.max(initial=0)),
        trained_tokens=round(sum(trained) * scale),
        overlong=round(int((lengths > limit).sum()) * scale),
        lost_tokens=round(lost * scale),
        untrainable=round(plan.untrainable * scale),
        padding_share=plan.padding_share,
        steps_per_epoch=steps_per_epoch(rows, recipe.batch_size),
        bins=histogram(lengths.tolist(), BINS),
        refused=len(found.refused),
        doubts=tuple(_doubts(found, recipe, file)),
    )


def _doubts(found: TokenLengths, recipe: Recipe, file: str) -> Iterator[Fault]:
    """What a model's template and the longest length make of single records."""
    for line in found.refused[:MOST_NAMED].tolist():
        what = "the model's chat template refuses the record"
        yield Problem("template", what, "change it or choose another model").at(file, line)
    for line in found.unmasked[:MOST_NAMED].tolist():
        yield NO_PROMPT.at(file, line)
    limit = recipe.max_seq_length
    untrained: list[Fault] = []
    overlong: list[Fault] = []
    for line, length, first in zip(
        found.lines.tolist(), found.lengths.tolist(), found.first_trained.tolist(), strict=False
    ):
        if sum(each.trained for each in pieces(length, first, limit, recipe.overlong)) == 0:
            what = f"no token of the record's {length} is trained within {limit}"
            remedy = "raise max_seq_length or shorten the prompt"
            untrained.append(Problem("untrained", what, remedy).at(file, line))
        elif length > limit:
            what = f"the record has {length} tokens, {length - limit} more than max_seq_length"
            what += _FATES[recipe.overlong]
            remedy = _WAYS_OUT[recipe.overlong]
            overlong.append(Problem("too long", what, remedy).at(file, line))
    yield from untrained[:MOST_NAMED]
    yield from overlong[:MOST_NAMED]
    yield from _marked(found, PROMPT_APART, file)
    yield from _marked(found, END_ADDED, file)


_FATES: Final[dict[Overlong, str]] = {
    "truncate": ", which are cut off before its end token",
    "split": ", so that it is trained in pieces",
    "drop": ", so that it is left out",
}
_WAYS_OUT: Final[dict[Overlong, str]] = {
    "truncate": "raise it, shorten the record or set overlong to split",
    "split": "raise it to train the record whole",
    "drop": "raise it, shorten the record or set overlong to split",
}


_MARKS: Final = {
    PROMPT_APART: Problem(
        "prompt",
        "the open prompt is not how the finished conversation begins",
        "look at its tokens; what follows their first difference is trained",
    ),
    END_ADDED: Problem(
        "no end",
        "the chat template doesn't end the answer",
        "nothing need be done, the model's end token is added",
    ),
}


def _marked(found: TokenLengths, mark: int, file: str) -> Iterator[Fault]:
    """The first record with a mark stands for all: the template makes them alike."""
    lines = found.lines[(found.marks & mark) > 0] if len(found.marks) else found.lines[:0]
    if len(lines):
        problem = _MARKS[mark]
        more = f" ({len(lines)} records in all)" if len(lines) > 1 else ""
        yield replace(problem, problem=problem.problem + more).at(file, int(lines[0]))


def _spread(lengths: NDArray[np.int64], records: int) -> int:
    """Half the width of the interval that holds the sum of all records' lengths."""
    if len(lengths) < 2:
        return 0
    error = float(lengths.std(ddof=1)) / math.sqrt(len(lengths))
    return round(_CERTAINTY * records * error)

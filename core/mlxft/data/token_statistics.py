"""A file's records in tokens: what is trained, truncated and padded; pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlxft.data import spans
from mlxft.data.batch_plan import BatchPlan
from mlxft.data.faults import Fault, Problem
from mlxft.data.record_checks import NO_PROMPT
from mlxft.data.rendering import LOSSES, Loss
from mlxft.data.spans import Span, Spans
from mlxft.data.statistics import histogram
from mlxft.data.token_figures import TokenFigures
from mlxft.data.truncation import pieces
from mlxft.recipe import Overlong, Recipe, steps_per_epoch

BINS: Final = 60
"""Bins of the length histogram; with more, noise would look like a pattern."""

PROMPT_APART: Final = 1
"""Marks a record that doesn't begin with its rendered prompt."""

END_ADDED: Final = 2
"""Marks a record whose answer the chat template doesn't end."""

LOSS_MARKS: Final[dict[Loss, int]] = {loss: 4 << at for at, loss in enumerate(LOSSES)}
"""Mark a record of which the chat template leaves something out."""

DATED: Final = 4 << len(LOSSES)
"""Marks a record in which the chat template writes the current date."""

DOUBLED: Final = DATED << 1
"""Marks a record with two beginning tokens or two end tokens."""

MAX_LISTED: Final = 1000
"""Records of a kind that are listed."""

_CONFIDENCE_95: Final = 1.96
"""Standard errors on each side of a 95% confidence interval."""


SPAN_ROW: Final = np.dtype(
    [("record", np.uint32), ("start", np.uint32), ("stop", np.uint32), ("weight", np.float32)]
)
"""A trained span, of the record at this index of the lengths."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenLengths:
    """Tokens of each record before truncation, and its trained spans in order (`SPAN_ROW`).

    `records` is how many the file has; fewer lengths are a random sample. `lines` and `marks` (bits
    `PROMPT_APART`, `END_ADDED`, `LOSS_MARKS`, `DATED`, `DOUBLED`) belong to the same records.
    `refused` are the lines that the chat template rejects, `unmasked` those without a prompt to
    mask, `foreign` those with tokens that the model has no embedding for.
    """

    lengths: NDArray[np.uint32]
    spans: NDArray[np.void]
    records: int
    lines: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    marks: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    refused: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    unmasked: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    foreign: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    refusal: str = ""
    """Why the template rejects the first of them."""

    @property
    def measured(self) -> int:
        """How many of the file's records were measured; some are trained as several."""
        if not len(self.lines):
            return len(self.lengths)
        return 1 + int((np.diff(self.lines.astype(np.int64)) != 0).sum())

    @property
    def whole(self) -> bool:
        """Whether all records were measured."""
        return self.measured == self.records

    def trained(self) -> Iterator[Spans]:
        """The trained spans of each record."""
        each = map(Span._make, self.spans[["start", "stop", "weight"]].tolist())
        for count in np.bincount(self.spans["record"], minlength=len(self.lengths)).tolist():
            yield tuple(itertools.islice(each, count))


def token_figures(
    found: TokenLengths, recipe: Recipe, file: str = "", positions: int | None = None
) -> TokenFigures:
    """The figures of these lengths under a recipe.

    `file` is their source, `positions` how many tokens the model was made for.
    """
    limit = recipe.max_seq_length
    lengths = found.lengths.astype(np.int64)
    fitted = [
        piece
        for length, trained in zip(lengths.tolist(), found.trained(), strict=True)
        for piece in pieces(length, trained, limit, recipe.overlong)
    ]
    targets = [piece.trained for piece in fitted]
    kept = [piece.length for piece in fitted]
    plan = BatchPlan(
        lengths=kept,
        trained=targets,
        batch_size=recipe.batch_size,
        max_seq_length=limit,
        seed=recipe.seed,
        packing=recipe.packing,
    )
    measured = found.measured
    scale = found.records / measured if measured else 0.0
    rows = math.ceil(len(plan.rows) * scale)
    lost = int(lengths.sum()) - sum(kept) if recipe.overlong != "split" else 0
    return TokenFigures(
        records=found.records,
        measured=measured,
        tokens=round(int(lengths.sum()) * scale),
        tokens_spread=0 if found.whole else _spread(lengths, found.records),
        longest=int(lengths.max(initial=0)),
        trained_tokens=round(sum(targets) * scale),
        trained_as=round(len(lengths) * scale),
        trained_weight=sum(spans.weight(piece.spans) for piece in fitted) * scale,
        overlong=round(int((lengths > limit).sum()) * scale),
        lost_tokens=round(lost * scale),
        untrainable=round(plan.untrainable * scale),
        padding_share=plan.padding_share,
        steps_per_epoch=steps_per_epoch(rows, recipe.batch_size),
        bins=histogram(lengths.tolist(), BINS),
        refused=len(found.refused) + len(found.foreign),
        warnings=(
            *_warnings(found, recipe, file),
            *_beyond_positions(found, recipe, file, positions),
        ),
    )


def _warnings(found: TokenLengths, recipe: Recipe, file: str) -> Iterator[Fault]:
    """Warnings about single records, from the chat template and `max_seq_length`."""
    for line in found.refused[:MAX_LISTED].tolist():
        what = "the model's chat template rejects the record"
        what += f" ({found.refusal})" if found.refusal else ""
        yield Problem("template", what, "change it or choose another model").at(file, line)
    for line in found.foreign[:MAX_LISTED].tolist():
        yield _FOREIGN.at(file, line)
    for line in found.unmasked[:MAX_LISTED].tolist():
        yield NO_PROMPT.at(file, line)
    limit = recipe.max_seq_length
    untrained: list[Fault] = []
    overlong: list[Fault] = []
    for line, length, trained in zip(
        found.lines.tolist(), found.lengths.tolist(), found.trained(), strict=False
    ):
        if not any(each.spans for each in pieces(length, trained, limit, recipe.overlong)):
            what = f"none of the record's {length} tokens is trained within max_seq_length {limit}"
            remedy = "raise it or shorten the prompt"
            untrained.append(Problem("untrained", what, remedy).at(file, line))
        elif length > limit:
            what = f"the record has {length} tokens, {length - limit} more than max_seq_length"
            what += _CONSEQUENCES[recipe.overlong]
            remedy = _REMEDIES[recipe.overlong]
            overlong.append(Problem("too long", what, remedy).at(file, line))
    yield from untrained[:MAX_LISTED]
    yield from overlong[:MAX_LISTED]
    for mark in _MARKS:
        yield from _marked(found, mark, file)


def _beyond_positions(
    found: TokenLengths, recipe: Recipe, file: str, positions: int | None
) -> Iterator[Fault]:
    """The first record of those that are trained with more tokens than the model was made for."""
    limit = recipe.max_seq_length
    if positions is None or limit <= positions:
        return
    beyond = found.lengths > positions
    if recipe.overlong == "drop":
        beyond &= found.lengths <= limit
    if not beyond.any():
        return
    first = int(beyond.argmax())
    what = f"the record has {found.lengths[first]} tokens, the model {positions} positions"
    what += f" ({beyond.sum()} records)" if beyond.sum() > 1 else ""
    remedy = f"set max_seq_length to {positions} or choose another model"
    line = int(found.lines[first]) if len(found.lines) else None
    yield Problem("positions", what, remedy).at(file, line)


_FOREIGN: Final = Problem(
    "vocabulary",
    "the record has a token beyond the model's vocab_size",
    "choose the model that the tokenizer belongs to, or remove what makes that token",
)

_CONSEQUENCES: Final[dict[Overlong, str]] = {
    "truncate": ", which are truncated before its end token",
    "split": ", so it is trained in pieces",
    "drop": ", so it is dropped",
}
_REMEDIES: Final[dict[Overlong, str]] = {
    "truncate": "raise it, shorten the record or set overlong to split",
    "split": "raise it to train the record whole",
    "drop": "raise it, shorten the record or set overlong to split",
}


_MARKS: Final = {
    **{
        mark: Problem(
            "lost",
            f"the chat template leaves out {loss}",
            "check the templated view; change the records or choose another model",
        )
        for loss, mark in LOSS_MARKS.items()
    },
    PROMPT_APART: Problem(
        "prompt",
        "the rendered record doesn't begin with its prompt",
        "check its tokens; everything after the first difference is trained",
    ),
    DATED: Problem(
        "date",
        "the chat template writes the current date",
        "nothing to do, a run keeps the date of its start",
    ),
    DOUBLED: Problem(
        "doubled",
        "the record begins with two beginning tokens or ends with two end tokens",
        "remove those that the text holds",
    ),
    END_ADDED: Problem(
        "no end",
        "the chat template doesn't end the answer",
        "nothing to do, the model's end token is added",
    ),
}


def _marked(found: TokenLengths, mark: int, file: str) -> Iterator[Fault]:
    """The first record with a mark represents all: the cause is the template."""
    lines = found.lines[(found.marks & mark) > 0] if len(found.marks) else found.lines[:0]
    if len(lines):
        problem = _MARKS[mark]
        more = f" ({len(lines)} records)" if len(lines) > 1 else ""
        yield replace(problem, problem=problem.problem + more).at(file, int(lines[0]))


def _spread(lengths: NDArray[np.int64], records: int) -> int:
    """Half the width of the confidence interval of the sum of all lengths."""
    if len(lengths) < 2:
        return 0
    error = float(lengths.std(ddof=1)) / math.sqrt(len(lengths))
    return round(_CONFIDENCE_95 * records * error)

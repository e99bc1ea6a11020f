"""A file's records in tokens: what is trained, cut and padded; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlxft.data.batch_plan import BatchPlan
from mlxft.data.overlong import pieces
from mlxft.data.statistics import histogram
from mlxft.data.token_figures import TokenFigures
from mlxft.recipe import Recipe

BINS: Final = 60
"""More columns would make bins of a few records each look like a pattern."""

_CERTAINTY: Final = 1.96
"""Standard errors to each side that hold the true mean 95 times of 100."""


@dataclass(frozen=True, eq=False)
class TokenLengths:
    """Tokens of each record before any cut, and the index of its first trained one.

    `records` is how many the file has; fewer lengths than that are a random sample.
    """

    lengths: NDArray[np.uint32]
    first_trained: NDArray[np.uint32]
    records: int

    @property
    def whole(self) -> bool:
        """Whether every record was measured."""
        return len(self.lengths) == self.records


def token_figures(found: TokenLengths, recipe: Recipe) -> TokenFigures:
    """The figures of these lengths under a recipe."""
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
        steps_per_epoch=-(-rows // recipe.batch_size),
        bins=histogram(lengths.tolist(), BINS),
    )


def _spread(lengths: NDArray[np.int64], records: int) -> int:
    """Half the width of the interval that holds the sum of all records' lengths."""
    if len(lengths) < 2:
        return 0
    error = float(lengths.std(ddof=1)) / math.sqrt(len(lengths))
    return round(_CERTAINTY * records * error)

"""The peak memory that a run is expected to need."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlxft.data.batch_plan import padded_width, rounding_on
from mlxft.duration.expectation import longest_record, past_runs
from mlxft.errors import ModelError
from mlxft.memory.calibrated import CalibratedEstimator, load_calibration
from mlxft.memory.calibration import Calibration

if TYPE_CHECKING:
    from mlxft.data.split_files import SplitName
    from mlxft.data.token_figures import TokenFigures
    from mlxft.duration.expectation import PastRun
    from mlxft.engine.protocol import ModelOpened
    from mlxft.memory.shapes import ModelShapes
    from mlxft.recipe import Recipe
    from mlxft.runs.followed import FollowedRun
    from mlxft.runs.history import History


class PeakEstimator:
    """The Recipe screen's estimate, computed once for each model, recipe and longest record."""

    def __init__(self) -> None:
        self._calibration = Calibration()
        self._past: Sequence[PastRun] = ()
        self._cached: tuple[object, int | None] | None = None

    async def calibrate(self, model: ModelOpened | None, history: History) -> bool:
        """Correct estimates by this machine's finished runs; False if the model is unknown."""
        shapes = _shapes_of(model)
        if model is None or shapes is None:
            return False
        runs = await asyncio.to_thread(history.poll)
        self._past = await asyncio.to_thread(past_runs, runs or ())
        self._calibration = await asyncio.to_thread(load_calibration, shapes, model.backend.kind)
        return True

    def longest_record(
        self,
        run: FollowedRun | None,
        recipe: Recipe,
        tokens: Mapping[SplitName, TokenFigures],
        records: int | None,
    ) -> int | None:
        """Tokens of the longest training record, as far as tokenized by a run or measured."""
        if run is not None and run.view.data is not None:
            return run.view.data.longest
        measured = tokens.get("train")
        if measured and measured.whole:
            return measured.longest
        return longest_record(recipe, self._past, records)

    def peak(self, model: ModelOpened | None, recipe: Recipe, longest: int | None) -> int | None:
        """Bytes that MLX is expected to report as its peak; None for unknown model families."""
        wanted = (model, recipe, longest, self._calibration)
        if self._cached is None or self._cached[0] != wanted:
            self._cached = wanted, _peak(*wanted)
        return self._cached[1]


def _peak(
    model: ModelOpened | None, recipe: Recipe, longest: int | None, calibration: Calibration
) -> int | None:
    shapes = _shapes_of(model)
    if model is None or shapes is None:
        return None
    backend = model.backend
    estimator = CalibratedEstimator(
        shapes, backend.kind, backend.memory_limit, longest, calibration
    )
    return estimator.estimate(recipe).peak


def _shapes_of(model: ModelOpened | None) -> ModelShapes | None:
    if model is None:
        return None
    from mlxft.memory.shapes import ModelShapes

    try:
        return ModelShapes.from_config(model.config)
    except ModelError:
        return None


def longest_row(recipe: Recipe, longest: int | None, backend: str) -> int | None:
    """Tokens of the longest row that the estimate for a kind of backend is for."""
    if longest is None or recipe.packing:
        return recipe.max_seq_length
    return padded_width(longest, recipe.max_seq_length, rounding_on(backend))

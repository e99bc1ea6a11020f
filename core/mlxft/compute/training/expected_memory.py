"""The memory that a run will take, tried on the model at hand where an estimate would be a guess.

A config.json says little about a family that isn't known: a recurrence that keeps every state, or
blocks that are passed twice, take many times what plain blocks take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import mlx.core as mx
import numpy as np

from mlxft import recipe as recipes
from mlxft.advice.before_start import would_swap
from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import operations, out_of_memory
from mlxft.compute.training.batches import ROUNDING, batch_arrays
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.start_checks import Verified, probe_gradients
from mlxft.data.batch_plan import padded_width
from mlxft.errors import ModelError, RunError
from mlxft.memory.calibration import calibration_for, corrected_estimate, remembered_peaks
from mlxft.memory.estimator import MemoryEstimate, estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.telemetry.apple import outputs
from mlxft.telemetry.limits import machine_memory
from mlxft.telemetry.programs import PROGRAMS, parse_programs
from mlxft.text import figures

LENGTHS: Final = (128, 256)
"""Tokens of the two rows."""

_GROWTH: Final = 1.5
"""How much more than the estimate the longer row must take for memory to grow faster than it."""

AGREEMENT: Final = 0.01
"""How far a known family's parameters may be from the model's, as a share of them."""


RUN_AHEAD: Final = 0.95
"""The share of the estimated peak at which MLX stops scheduling ahead.

Llama 3.2 3B, 4-bit, 4 × 2048 tokens on an H100: the peak falls from 5.8 to 4.7 GB at 0.99 of the
speed. Below what a step needs the peak falls no further, but the speed does: with 4 × 224 tokens on
an H200 from 137 to 188 ms a step at 0.92 of it.
"""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The peak that MLX is expected to report, and the whole process's memory, in bytes.

    `is_known` is whether the model's family is known and its parameters are those at hand.
    """

    peak: int
    total: int
    is_known: bool


def expected(
    recipe: Recipe, loaded: LoadedModel, longest: int, checked: Verified
) -> Expected | None:
    """The memory of a run whose longest record has this many tokens; None if it isn't known.

    For a known family the Recipe screen's estimate. For others the peaks of earlier runs of the
    same model correct a guess or, without any, two small steps of the model at hand.
    """
    try:
        shapes = ModelShapes.from_config(loaded.config)
    except ModelError:
        return None
    kind = backend.kind()
    width = padded_width(longest, recipe.max_seq_length, ROUNDING)
    calibration = calibration_for(shapes, kind, backend.versions()["mlx"], remembered_peaks())
    is_known = _counts_agree(shapes, loaded)
    if is_known or (calibration.runs and calibration.same_model):
        found = corrected_estimate(
            shapes, recipe, kind, limit=None, longest=width, calibration=calibration
        )
    else:
        try:
            with operations.replaced():
                found = _tried_estimate(shapes, loaded, recipe, checked, width=width)
        except (RuntimeError, MemoryError):  # Rows of the data may be shorter, and fit.
            return None
    return Expected(peak=found.peak, total=found.total, is_known=is_known)


def warning(recipe: Recipe, loaded: LoadedModel, longest: int, found: Expected | None) -> list[str]:
    """What to change, if a family whose estimate was a guess needs more than there is."""
    limit = backend.memory_limit()
    if found is None or found.is_known or limit is None or found.total <= limit:
        return []
    need, there = figures.gigabytes(found.total), figures.gigabytes(limit)
    return [
        f"By two small steps of this {loaded.model_type} model the run needs {need} GB of {there}; "
        f"{out_of_memory.remedy(recipe, loaded, longest)} if memory runs out."
    ]


def refuse_swap(recipe: Recipe, found: Expected | None) -> None:
    """Raise `RunError` on a Mac whose other programs leave a run too little memory.

    Guesses hold nothing back, nor does anything where the recipe says so.
    """
    if recipe.may_swap or found is None or not found.is_known:
        return
    limits, own = machine_memory(), backend.memory()
    if limits.kind != "metal" or limits.available is None:
        return
    # What this process has already is part of what the run needs.
    available = limits.available + own.active + own.cache
    if would_swap(found.total, available, {}):
        programs = parse_programs(outputs([PROGRAMS])[0])
        raise RunError(would_swap(found.total, available, programs) or "")


def run_ahead_limit(recipe: Recipe, loaded: LoadedModel, longest: int) -> int | None:
    """The bytes up to which MLX may schedule ahead: a little less than its unbounded peak.

    `longest` are the tokens of the longest record. None where the peak isn't known: for an unknown
    model family, or weights that aren't those of its config.json.
    """
    try:
        shapes = ModelShapes.from_config(loaded.config)
    except ModelError:
        return None
    if not _counts_agree(shapes, loaded):
        return None
    width = padded_width(longest, recipe.max_seq_length, ROUNDING)
    return int(RUN_AHEAD * estimate(shapes, recipe, backend.kind(), None, width).peak)


def _counts_agree(shapes: ModelShapes, loaded: LoadedModel) -> bool:
    """Whether the family is known and its parameters are those of the weights at hand."""
    off = abs(shapes.parameters - loaded.total_parameters)
    return shapes.known_family and off <= AGREEMENT * loaded.total_parameters


def _tried_estimate(
    shapes: ModelShapes, loaded: LoadedModel, recipe: Recipe, checked: Verified, *, width: int
) -> MemoryEstimate:
    """The estimate with the model's own weights, and activations as two steps of one row take.

    Where the longer row takes more than its share, longer ones are expected to do so too.
    """
    recipe = recipes.replace(recipe, "grad_checkpoint", checked.grad_checkpoint)
    dtype = adapters.compute_dtype(loaded, recipe)
    short, long = (
        _ratio(shapes, loaded.model, recipe, checked.loss, length=length, dtype=dtype)
        for length in LENGTHS
    )
    longest = recipes.row_limit(recipe) if recipe.packing else min(width, recipe.max_seq_length)
    beyond = max(0, longest - LENGTHS[1]) if long > _GROWTH * short else 0
    ratio = long + beyond * (long - short) / (LENGTHS[1] - LENGTHS[0])
    guess = _as_loaded(estimate(shapes, recipe, backend.kind(), None, width), loaded.model)
    return replace(guess, activations=round(ratio * guess.activations), correction=ratio)


def _ratio(
    shapes: ModelShapes,
    model: Any,
    recipe: Recipe,
    loss: Loss,
    *,
    length: int,
    dtype: mx.Dtype | None,
) -> float:
    """The activations of a step of one row, relative to the estimate."""
    tokens = np.random.default_rng(length).integers(0, 64, (1, length + 1), np.int32)
    batch = batch_arrays(tokens, np.ones(tokens.shape, np.bool_))

    def step() -> None:
        probe_gradients(model, loss, batch, dtype=dtype, recomputed=recipe.grad_checkpoint)

    step()  # The first one also compiles kernels.
    measured = backend.peak_of(step)
    one_row = ("batch_size=1", "packing=false", "loss=sft", f"max_seq_length={length + 1}")
    row = recipes.apply_settings(recipe, one_row)
    expected = _as_loaded(estimate(shapes, row, backend.kind(), None), model)
    counted = expected.gradients + expected.loss
    return max(0.0, measured - counted) / max(1, expected.activations)


def _as_loaded(guess: MemoryEstimate, model: Any) -> MemoryEstimate:
    """The estimate with the weights and the adapter that are in memory."""
    whole = sum(each.nbytes for each in named_arrays(model.parameters()).values())
    trained = sum(each.nbytes for each in named_arrays(model.trainable_parameters()).values())
    if not guess.adapter:
        return replace(guess, weights=whole)
    scale = trained / guess.adapter
    return replace(
        guess,
        weights=whole - trained,
        adapter=trained,
        gradients=round(scale * guess.gradients),
        optimizer=round(scale * guess.optimizer),
    )

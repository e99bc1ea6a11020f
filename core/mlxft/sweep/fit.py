"""Which points of a sweep won't fit into this machine's memory, and what one needs on the disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from mlxft.data.dataset import Split
from mlxft.duration.expectation import PastRun, longest_record
from mlxft.errors import ModelError
from mlxft.memory.calibrated import CalibratedEstimator, load_calibration
from mlxft.memory.estimator import MemoryEstimate
from mlxft.memory.local_config import local_config
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.telemetry.limits import machine_memory
from mlxft.text import figures

TEMPLATE_TOKENS: Final = 256
"""More than a chat template adds to a short conversation."""

Estimate = Callable[[Recipe], MemoryEstimate | None]
"""The memory of a recipe; None where nothing is known of its model."""


def estimates(project: Path, longest: int | None) -> Estimate:
    """Estimates for this machine, of records with at most so many tokens.

    Reads each model's config.json once.
    """
    machine = machine_memory()
    known: dict[str, CalibratedEstimator | None] = {}

    def of_model(model: str) -> CalibratedEstimator | None:
        try:
            shapes = ModelShapes.from_config(local_config(model, project))
        except ModelError:
            return None
        calibration = load_calibration(shapes, machine.kind)
        return CalibratedEstimator(shapes, machine.kind, machine.limit, longest, calibration)

    def estimate(recipe: Recipe) -> MemoryEstimate | None:
        if recipe.model not in known:
            known[recipe.model] = of_model(recipe.model)
        estimator = known[recipe.model]
        return estimator.estimate(recipe) if estimator else None

    return estimate


def refusal(estimate: MemoryEstimate | None) -> str:
    """Why a point with this estimate isn't trained; empty if it is."""
    if estimate is None or estimate.verdict != "wont_fit":
        return ""
    needs, has = figures.gigabytes(estimate.total), figures.gigabytes(estimate.limit)
    return f"needs {needs} GB of memory, of {has} GB"


def longest_of(recipe: Recipe, runs: Sequence[PastRun], train: Split) -> int:
    """Tokens that the longest record has at most: as a run has counted, or else its bytes."""
    return longest_record(recipe, runs, len(train.records)) or _at_most(train)


def _at_most(split: Split) -> int:
    """More tokens than the longest record has: a token is at least a byte of its text."""
    texts = (msgspec.json.encode((each.fields, each.rejected)) for each in split.records)
    return max((len(each) for each in texts), default=0) + TEMPLATE_TOKENS


def folder_bytes(recipe: Recipe, estimate: MemoryEstimate) -> int:
    """What a run's folder will hold at most: the adapters of all saves, and the checkpoints.

    A run also saves after a validation that was the best so far, which each may be. A checkpoint
    has the optimizer's state beside the adapter.
    """
    has_best = recipe.val_batches != 0
    saves = _saves(recipe.iters, recipe.save_every, recipe.steps_per_eval if has_best else None)
    checkpoints = min(saves, recipe.keep_checkpoints + has_best)
    of_checkpoint = estimate.adapter + estimate.optimizer
    return estimate.adapter * (saves + 1 + has_best) + checkpoints * of_checkpoint


def _saves(iters: int, save_every: int, validate_every: int | None) -> int:
    """How often a run saves: by its steps, after validations, and at its end."""
    found = iters // save_every
    steps = [save_every]
    if validate_every is not None:
        found += iters // validate_every - iters // math.lcm(save_every, validate_every)
        steps.append(validate_every)
    return found + all(iters % each for each in steps)

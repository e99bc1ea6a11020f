"""What to change in a recipe that has run out of memory."""

from __future__ import annotations

from typing import Any, Final

from mlxft.advice.fit import fit
from mlxft.compute import backend
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.batches import ROUNDING
from mlxft.data.batch_plan import padded_width
from mlxft.errors import ModelError
from mlxft.memory.estimator import MemoryEstimate, estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe, find

SHARE: Final = 0.8
"""The share of the failed step's estimate to stay below; estimates are off by less."""


def is_meant_by(error: Exception) -> bool:
    """Whether the error is MLX's or Python's for a full memory."""
    said = str(error)
    return isinstance(error, MemoryError) or "alloc" in said or "memory" in said.lower()


def remedy(recipe: Recipe, loaded: LoadedModel, longest: int) -> str:
    """Changes that need clearly less memory than the failed step, as text.

    `longest` is the tokens of the longest record before truncation.
    """
    try:
        shapes = ModelShapes.from_config(loaded.config)
    except ModelError:
        return "lower batch_size or max_seq_length, or set grad_checkpoint to true"

    def need(changed: Recipe, limit: int | None = None) -> MemoryEstimate:
        width = padded_width(longest, changed.max_seq_length, ROUNDING)
        return estimate(shapes, changed, backend.kind(), limit, width)

    now = need(recipe).total
    limit = int(SHARE * now)
    fitted, savings = fit(recipe, lambda each: need(each, limit), len(shapes.blocks))
    if fitted is None:
        return "choose a smaller or more strongly quantized model"
    changes = ", ".join(f"{each.key} to {_text(each.value)}" for each in savings)
    needs_new_run = any(find(each.key).declared.resume == "fixed" for each in savings)
    where = " in a new run" if needs_new_run else ""
    return f"set {changes}{where} ({need(fitted).total / 1e9:.1f} instead of {now / 1e9:.1f} GB)"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

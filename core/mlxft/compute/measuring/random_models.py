"""Models of random weights as runs have theirs, and what trains one as a run does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlxft.compute import backend
from mlxft.compute.measuring.random_weights import random_model
from mlxft.compute.models import adapters, loading
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import choices, optimizers
from mlxft.compute.training.attention import Backend
from mlxft.compute.training.expected_memory import run_ahead_limit
from mlxft.compute.training.start_checks import verified
from mlxft.compute.training.step import Stepper
from mlxft.compute.training.stepper_options import loss_of, stepper_options
from mlxft.recipe import Recipe


def random_dtype() -> str:
    """The type of random weights: a CPU is fast in float32 only."""
    return "float32" if backend.kind() == "cpu" else "bfloat16"


def loaded_model(config: Mapping[str, Any]) -> LoadedModel:
    """A random model as a run would have loaded it: quantized as the config says on a GPU, and
    dequantized on a CPU."""
    loaded = loading.as_computed(random_model(config, random_dtype()), dict(config))
    mx.eval(loaded.model.parameters())
    return loaded


def attached(config: Mapping[str, Any], recipe: Recipe) -> LoadedModel:
    """A random model as a run would have loaded it, with the recipe's adapter."""
    loaded = loaded_model(config)
    adapters.attach(loaded, recipe)
    return loaded


@dataclass(frozen=True, kw_only=True)
class Started:
    """A model that is ready for its first step.

    `warnings` say what a run would do otherwise than its recipe; `run_ahead_limit` are the bytes up
    to which MLX may schedule ahead, or None.
    """

    stepper: Stepper
    optimizer: Any
    warnings: tuple[str, ...]
    run_ahead_limit: int | None


def started(
    loaded: LoadedModel, recipe: Recipe, longest: int, on: Backend | None = None
) -> Started:
    """What trains a model that has the recipe's adapter, with a run's choices and start checks.

    `longest` are the tokens of the longest record; attention and products are computed as is chosen
    for the backend `on`, by default this process's. Raises `ModelError` if it can't be trained.
    """
    ways = choices.chosen(recipe, loaded, on)
    with backend.beside_training():
        checked = verified(
            loaded.model,
            f"a random {loaded.model_type}",
            grad_checkpoint=recipe.grad_checkpoint,
            dtype=adapters.compute_dtype(loaded, recipe),
        )
    optimizer = optimizers.make_optimizer(recipe)
    optimizer.init(loaded.model.trainable_parameters())
    options = stepper_options(
        recipe,
        loaded,
        loss=loss_of(recipe, checked),
        grad_checkpoint=checked.grad_checkpoint,
        ways=ways,
    )
    return Started(
        stepper=Stepper(loaded.model, optimizer, **options),
        optimizer=optimizer,
        warnings=checked.warnings,
        run_ahead_limit=run_ahead_limit(recipe, loaded, longest),
    )

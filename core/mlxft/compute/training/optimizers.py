"""Optimizers and learning-rate schedules, built as mlx-lm does from the same keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
from mlx_lm.tuner.utils import build_schedule

from mlxft import recipe as recipes
from mlxft.compute.tokenization import first_line
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe

_CLASSES: dict[recipes.Optimizer, Callable[..., optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "muon": optim.Muon,
    "adafactor": optim.Adafactor,
}


def make_optimizer(recipe: Recipe) -> optim.Optimizer:
    """The recipe's optimizer. Raises `RecipeError` for an argument that it refuses."""
    arguments = recipe.optimizer_config.get(recipe.optimizer, {})

    def made() -> optim.Optimizer:
        return _CLASSES[recipe.optimizer](learning_rate=recipe.learning_rate, **arguments)

    try:
        _try_update(made())
        return made()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"optimizer_config.{recipe.optimizer} is {arguments}; the optimizer refuses it "
            f"({first_line(error)})."
        ) from error


def _try_update(optimizer: optim.Optimizer) -> None:
    """Make one update: mlx checks most arguments only when they are used."""
    matrix = {"weight": mx.ones((2, 2))}
    mx.eval(optimizer.apply_gradients(matrix, matrix))


def ignores_learning_rate(optimizer: optim.Optimizer) -> bool:
    """Whether the optimizer chooses its own step size, as adafactor does by default."""
    return bool(getattr(optimizer, "relative_step", False))


def make_schedule(recipe: Recipe) -> Callable[[int], float]:
    """The learning rate as a function of the number of updates made.

    Raises `RecipeError` for arguments that mlx's schedule refuses.
    """
    settings: dict[str, Any] | None = recipes.to_mapping(recipe)["lr_schedule"]
    if settings is None:
        return lambda _: recipe.learning_rate
    try:
        schedule = build_schedule(settings)
        schedule(mx.array(0, mx.uint64))
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"lr_schedule.arguments is {settings['arguments']}; {settings['name']} refuses it "
            f"({first_line(error)})."
        ) from error

    def rate(updates: int) -> float:
        value = mx.array(schedule(mx.array(updates, mx.uint64))).item()
        assert not isinstance(value, complex)
        return float(value)

    return rate

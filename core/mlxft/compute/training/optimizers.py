"""Optimizers and learning-rate schedules, built as mlx-lm does from the same keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

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

    def one() -> optim.Optimizer:
        return _CLASSES[recipe.optimizer](learning_rate=recipe.learning_rate, **arguments)

    def made() -> optim.Optimizer:
        ratio = recipe.loraplus_lr_ratio
        return one() if ratio == 1 else FasterB(one(), one(), ratio)

    try:
        _try_update(made())
        _check_ratio(recipe, one())
        return made()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"optimizer_config.{recipe.optimizer} is {arguments}; the optimizer refuses it "
            f"({first_line(error)})."
        ) from error


class FasterB(optim.MultiOptimizer):
    """Two optimizers of a kind: that of the matrices B has `ratio` times the rate (LoRA+).

    Hayou, Ghosh and Yu 2024: B starts at 0 and needs larger updates than A. Everything else that is
    trained, as magnitudes, keeps the rate.
    """

    def __init__(self, of_b: optim.Optimizer, of_others: optim.Optimizer, ratio: float) -> None:
        super().__init__([of_b, of_others], [lambda name, _: _IS_B.search(name) is not None])
        self._ratio = ratio

    @property
    def learning_rate(self) -> mx.array:
        """The rate of everything but B."""
        rate: mx.array = self.optimizers[1].learning_rate
        return rate

    @learning_rate.setter
    def learning_rate(self, rate: float | mx.array) -> None:
        of_b, of_others = self.optimizers
        of_b.learning_rate, of_others.learning_rate = self._ratio * rate, rate


_IS_B: Final = re.compile(r"(?:^|\.)lora_b(?:\.\d+)?$")
"""The name of a matrix B; a layer of several parts has one of each."""


def _check_ratio(recipe: Recipe, optimizer: optim.Optimizer) -> None:
    """Raise `RecipeError` for a ratio that would change nothing."""
    if recipe.loraplus_lr_ratio == 1:
        return
    reason = ""
    if recipe.fine_tune_type == "full":
        reason = "fine_tune_type full trains no matrices B; set it to 1"
    elif ignores_learning_rate(optimizer):
        reason = (
            f"{recipe.optimizer} takes its own step size; set it to 1, or optimizer_config to "
            f"{{{recipe.optimizer}: {{relative_step: false}}}}"
        )
    if reason:
        raise RecipeError(f"loraplus_lr_ratio is {recipe.loraplus_lr_ratio:g}, but {reason}.")


def _try_update(optimizer: optim.Optimizer) -> None:
    """Make one update: mlx checks most arguments only when they are used."""
    matrices = {"lora_a": mx.ones((2, 2)), "lora_b": mx.ones((2, 2))}
    mx.eval(optimizer.apply_gradients(matrices, matrices))


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

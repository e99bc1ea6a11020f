"""A stepper's arguments, the same on every rank and in every measurement."""

from __future__ import annotations

from typing import Any

from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.choices import Choices
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.preference_loss import PreferenceLoss
from mlxft.compute.training.start_checks import Verified
from mlxft.recipe import Recipe


def loss_of(recipe: Recipe, checked: Verified) -> Loss | PreferenceLoss:
    """The recipe's loss, computed the way that the model allows."""
    if recipe.loss == "sft":
        return checked.loss
    return PreferenceLoss(way=checked.loss, method=recipe.loss, constants=recipe.loss_parameters)


def stepper_options(
    recipe: Recipe,
    loaded: LoadedModel,
    *,
    loss: Loss | PreferenceLoss,
    grad_checkpoint: bool,
    ways: Choices,
) -> dict[str, Any]:
    """A `Stepper`'s arguments by the recipe and what was found out about the model."""
    return {
        "seed": recipe.seed,
        "grad_checkpoint": grad_checkpoint,
        "loss": loss,
        "dtype": adapters.compute_dtype(loaded, recipe),
        "max_grad_norm": recipe.max_grad_norm,
        "by_tokens": recipe.grad_accumulation_by == "tokens",
        "noise_alpha": recipe.neftune_noise_alpha,
        "choices": ways,
    }

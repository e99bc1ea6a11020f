"""Named starting points for a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mlxft import recipe as recipes
from mlxft.recipe import Recipe, keys_where


@dataclass(frozen=True)
class Preset:
    """A starting point; parameters that it doesn't set get their defaults.

    Where the data is known, `epochs` decides the number of steps instead of `iters`.
    """

    name: str
    purpose: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: float | None = None


PRESETS: Final = (
    Preset(
        "one layer",
        "the last layer at 2e-4, batch 4, 225 steps, checkpointed",
        {
            "batch_size": 4,
            "iters": 225,
            "learning_rate": 2e-4,
            "num_layers": 1,
            "grad_checkpoint": True,
        },
    ),
    Preset(
        "quick",
        "one epoch with few layers, to see whether it learns at all",
        {"iters": 100, "learning_rate": 2e-4, "num_layers": 4, "max_seq_length": 1024},
        epochs=1,
    ),
    Preset(
        "balanced",
        "two epochs, 16 layers, a decaying learning rate",
        {
            "iters": 600,
            "learning_rate": 1e-4,
            "num_layers": 16,
            "grad_checkpoint": True,
            "max_grad_norm": 1.0,
            "lr_schedule.name": "cosine_decay",
            "lr_schedule.warmup": 10,
        },
        epochs=2,
    ),
    Preset(
        "quality",
        "three epochs, all layers, rank 16; slower, and needs more memory",
        {
            "iters": 1000,
            "learning_rate": 1e-4,
            "num_layers": -1,
            "lora_parameters.rank": 16,
            "lora_parameters.dropout": 0.05,
            "grad_checkpoint": True,
            "max_grad_norm": 1.0,
            "lr_schedule.name": "cosine_decay",
            "lr_schedule.warmup": 20,
        },
        epochs=3,
    ),
    Preset(
        "smallest memory",
        "one layer, one short record per step, four steps per update, checkpointed",
        {
            "batch_size": 1,
            "grad_accumulation_steps": 4,
            "learning_rate": 1e-4,
            "num_layers": 1,
            "max_seq_length": 512,
            "grad_checkpoint": True,
        },
        epochs=1,
    ),
)


def applied(
    preset: Preset, recipe: Recipe, records: int | None = None, blocks: int | None = None
) -> Recipe:
    """The recipe with the preset's values.

    `records` is the size of the training set. No more than the model's `blocks` are trained;
    mlx-lm would refuse more.
    """
    made = Recipe()
    for key in keys_where(lambda each: each.kept_by_presets):
        made = recipes.replace(made, key, recipes.get(recipe, key))
    for key, value in preset.settings.items():
        made = recipes.replace(made, key, value)
    if blocks is not None and made.num_layers > blocks:
        made = recipes.replace(made, "num_layers", blocks)
    if preset.epochs is not None and records:
        steps_per_epoch = recipes.steps_per_epoch(records, made.batch_size)
        made = recipes.replace(
            made, "iters", recipes.iters_for_epochs(preset.epochs, steps_per_epoch)
        )
    return made

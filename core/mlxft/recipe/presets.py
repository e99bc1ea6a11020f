"""Named starting points for a recipe: what they set, and what they leave as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mlxft import recipe as recipes
from mlxft.recipe import PARAMETERS, Recipe

KEPT: Final = frozenset(
    {
        "model",
        "trust_remote_code",
        "data",
        "columns",
        "mask_prompt",
        "resume_adapter_file",
        "seed",
        "sample_prompt",
        "prevent_sleep",
        "report_to",
        "project_name",
    }
)
"""Parameters that say what is trained on what; no preset touches them."""


@dataclass(frozen=True)
class Preset:
    """A starting point; what it doesn't set is at its default.

    `epochs` decides the steps where the data is known, in place of `iters`.
    """

    name: str
    purpose: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: float | None = None


PRESETS: Final = (
    Preset(
        "like the notes",
        "batch 4, 225 steps, 2e-4, the last layer, checkpointed",
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
        "one pass over the data with few layers, to see whether it learns at all",
        {"iters": 100, "learning_rate": 2e-4, "num_layers": 4, "max_seq_length": 1024},
        epochs=1,
    ),
    Preset(
        "balanced",
        "two passes, half of a small model's layers, a rate that ends calmly",
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
        "three passes over all layers at a wider rank; slower, and needs more memory",
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
        "single short records, one layer, checkpointed; four of them make an update",
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
    """The recipe with the preset's values; `records` of the training set decide the steps.

    Of a model with few `blocks` no more are trained than there are; mlx-lm would refuse to.
    """
    made = Recipe()
    for key in (key for key in PARAMETERS if key in KEPT):
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

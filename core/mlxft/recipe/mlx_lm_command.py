"""A recipe as the ``mlx_lm lora`` command that trains the same."""

from __future__ import annotations

import shlex
from typing import Any, Final

from mlxft import recipe as recipes
from mlxft.recipe import Recipe

FLAGS: Final = (
    "model",
    "data",
    "fine_tune_type",
    "optimizer",
    "num_layers",
    "batch_size",
    "iters",
    "val_batches",
    "learning_rate",
    "steps_per_report",
    "steps_per_eval",
    "grad_accumulation_steps",
    "resume_adapter_file",
    "save_every",
    "max_seq_length",
    "clear_cache_threshold",
    "report_to",
    "project_name",
    "seed",
)
"""Parameters that mlx-lm takes as flags with a value."""

SWITCHES: Final = ("mask_prompt", "grad_checkpoint")
"""Parameters that mlx-lm takes as flags without one."""

IN_CONFIG: Final = ("lora_parameters", "lr_schedule", "optimizer_config")
"""Parameters that mlx-lm reads from a config file only."""


def mlx_lm_command(
    recipe: Recipe,
    adapter_path: str = "adapters/mlx_lm",
    model: str | None = None,
    blocks: int | None = None,
) -> str:
    """A shell command; what has no flag goes to it as a config on its standard input.

    What mlx-lm does not know (packing, clipping, early stopping …) is left out. `model` is a folder
    in place of the recipe's model, and `blocks` is how many it has: mlx-lm refuses to train more.
    """
    if model is not None:
        recipe = recipes.replace(recipe, "model", model)
    if blocks is not None and recipe.num_layers > blocks:
        recipe = recipes.replace(recipe, "num_layers", blocks)
    mapping, usual = recipes.to_mapping(recipe), recipes.to_mapping(Recipe())
    words = ["mlx_lm.lora", "--train", "--adapter-path", adapter_path]
    for key in FLAGS:
        if mapping[key] is not None:
            words += [_flag(key), _text(mapping[key])]
    words += [_flag(key) for key in SWITCHES if mapping[key]]
    config = {key: mapping[key] for key in IN_CONFIG if mapping[key] != usual[key]}
    if not config:
        return shlex.join(words)
    import yaml

    command = shlex.join([*words, "--config", "/dev/stdin"])
    return f"{command} <<'YAML'\n{yaml.safe_dump(config, sort_keys=False)}YAML\n"


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""A recipe as the ``mlx_lm.lora`` command that trains the same."""

from __future__ import annotations

import shlex
from typing import Any

from mlxft import recipe as recipes
from mlxft.hosts import rank_count
from mlxft.recipe import PARAMETERS, Recipe, keys_where
from mlxft.recipe.hub_data import hub_data, to_mlx_lm
from mlxft.recipe.launch_command import launched
from mlxft.recipe.trackers import OF_MLX_LM, tracker_names
from mlxft.recipe.yaml_text import write_yaml


def mlx_lm_command(
    recipe: Recipe,
    adapter_path: str = "adapters/mlx_lm",
    model: str | None = None,
    blocks: int | None = None,
) -> str:
    """A shell command; parameters without a flag are passed as a config on standard input, or in a
    file where mlx.launch starts several ranks.

    Parameters that mlx-lm doesn't have (packing, gradient clipping, early stopping …) are omitted.
    `model` is a folder that replaces the recipe's model, `blocks` its number of transformer blocks:
    mlx-lm refuses to train more.
    """
    if model is not None:
        recipe = recipes.replace(recipe, "model", model)
    if blocks is not None and recipe.num_layers > blocks:
        recipe = recipes.replace(recipe, "num_layers", blocks)
    mapping, defaults = recipes.to_mlx_lm(recipe), recipes.to_mlx_lm(Recipe())
    words = ["mlx_lm.lora", "--train", "--adapter-path", adapter_path]
    hub = hub_data(recipe.data)
    sliced = {"hf_dataset": to_mlx_lm(hub)} if hub and hub.slices else {}
    for key in keys_where(lambda each: each.mlx_lm == "flag"):
        if mapping[key] is not None and not (key == "data" and sliced):
            words += [_flag(key), _text(mapping[key])]
    switches = (PARAMETERS[key] for key in keys_where(lambda each: each.mlx_lm == "switch"))
    words += [_flag(each.mlx_lm_key) for each in switches if mapping.get(each.mlx_lm_key)]
    sections = (PARAMETERS[key].section for key in keys_where(lambda each: each.mlx_lm == "config"))
    config = sliced | {key: mapping[key] for key in sections if mapping[key] != defaults[key]}
    if recipe.hosts != 1:
        return launched(recipe.hosts, words, config)
    if not config:
        return shlex.join(words)
    command = shlex.join([*words, "--config", "/dev/stdin"])
    return f"{command} <<'YAML'\n{write_yaml(config)}YAML\n"


def command_notes(recipe: Recipe) -> list[str]:
    """What the command does otherwise than the recipe for want of a parameter, a sentence each.

    Only values that mlx-lm's parameter can't say, and services that it doesn't report to; what it
    lacks altogether is in the reference.
    """
    notes = [
        f"mlx-lm has no {key} {value}; the command trains everything there."
        for key in keys_where(lambda each: each.other_name is not None)
        for other in (PARAMETERS[key].declared.other_name,)
        if other is not None and (value := recipes.get(recipe, key)) not in other.values
    ]
    if recipe.batch_size % (ranks := rank_count(recipe.hosts).all):
        notes.append(f"mlx-lm needs a batch_size that {ranks} ranks can divide.")
    names = [each for each in tracker_names(recipe.report_to) if each not in OF_MLX_LM]
    if names:
        notes.append(f"mlx-lm doesn't report to {' and '.join(names)}; the command leaves it out.")
    return notes


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _text(value: Any) -> str:
    text = str(value)
    return text.removesuffix(".0") if isinstance(value, float) else text

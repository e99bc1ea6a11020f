"""Refuses an adapter that can't be used, before anything is loaded for it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlxft.adapters.files import AdapterFiles, adapter_files
from mlxft.adapters.layers import AdaptedLayer, adapted_layers, block_of, common_name
from mlxft.adapters.peft import peft_config
from mlxft.adapters.tensors import refuse_not_finite, tensors_of
from mlxft.errors import ModelError, RecipeError
from mlxft.recipe import Recipe

Sizes = tuple[int, int]
"""A layer's inputs and outputs; of an embedding its tokens and its width."""


def checked_adapter(
    path: Path, model: Path | None = None, *, needs_config: bool = True
) -> tuple[AdapterFiles, tuple[AdaptedLayer, ...]]:
    """An adapter's files and layers; no layers for a full fine-tune.

    `path` is a folder or a weights file, `model` the model's folder, to compare with where it is
    known. Raises `ModelError` for an adapter that is incomplete, not finite, of another model, or
    of a kind that mlx-lm doesn't have.
    """
    files = adapter_files(path, needs_config=needs_config)
    tensors = tensors_of(files.weights)
    if not tensors:
        raise ModelError(f"{files.weights}: this adapter is empty; choose another one.")
    dora = files.kind == "dora"
    if files.is_peft:
        assert files.config_file is not None
        dora = peft_config(files.config, files.config_file).dora
    elif any(name.startswith("base_model.") for name in tensors):
        raise ModelError(
            f"{files.weights}: an adapter of PEFT needs its adapter_config.json in the same "
            "folder; copy it there."
        )
    shapes = {name: each.shape for name, each in tensors.items()}
    full = files.kind == "full" and not files.is_peft
    layers = () if full else adapted_layers(shapes, files.weights, dora=dora)
    refuse_not_finite(files.weights, tensors)
    if model is not None:
        refuse_other_model(files, layers, sizes_in(model))
    return files, layers


def check_start(recipe: Recipe, path: Path, model: Path | None) -> None:
    """Refuse an adapter that a run of this recipe can't start from.

    Raises `ModelError`, and `RecipeError` where the recipe can be changed to fit.
    """
    files, layers = checked_adapter(path, model, needs_config=False)
    if recipe.fine_tune_type == "full":
        return
    if not layers:
        raise ModelError(
            f"{files.weights}: these are weights of a full fine-tune; set fine_tune_type to full, "
            "or choose an adapter."
        )
    ranks = {each.rank for each in layers}
    wanted = recipe.lora_parameters.rank
    if ranks != {wanted}:
        found = " and ".join(str(each) for each in sorted(ranks))
        remedy = f"set it to {found}" if len(ranks) == 1 else "a run has one; choose another"
        raise RecipeError(
            f"lora_parameters.rank is {wanted}, but {files.weights} has rank {found}; {remedy}."
        )
    refuse_other_scale(recipe, files, layers)


def refuse_other_scale(recipe: Recipe, files: AdapterFiles, layers: Iterable[AdaptedLayer]) -> None:
    """Raise `RecipeError` unless the recipe's scale is the one an adapter was trained at."""
    shape = recipe.lora_parameters
    scales = sorted(scales_of(files, layers))
    if all(math.isclose(each, shape.factor, rel_tol=1e-6) for each in scales):
        return
    found = " and ".join(f"{each:.9g}" for each in scales)
    remedy = "a run has one; choose another adapter"
    if len(scales) == 1:
        remedy = f"set it to {found}" + ", and use_rslora to false" * shape.use_rslora
    divided = f" / √{shape.rank}" if shape.use_rslora else ""
    raise RecipeError(
        f"lora_parameters.scale is {shape.scale:g}{divided}, but {files.weights} was trained "
        f"at {found}; {remedy}."
    )


def scales_of(files: AdapterFiles, layers: Iterable[AdaptedLayer]) -> set[float]:
    """The scales of an adapter's layers; none where its config doesn't say."""
    if files.is_peft:
        assert files.config_file is not None
        peft = peft_config(files.config, files.config_file)
        return {peft.scale_of(each.path) for each in layers}
    shape = files.config.get("lora_parameters") or {}
    scale = shape.get("scale") if isinstance(shape, Mapping) else None
    return {float(scale)} if isinstance(scale, int | float) else set()


def refuse_other_model(
    files: AdapterFiles, layers: Iterable[AdaptedLayer], sizes: Mapping[str, Sizes]
) -> None:
    """Raise `ModelError` for a layer that the model has in another size, or not so many of.

    `sizes` are the model's layers by common name; one that isn't among them is passed over.
    """
    numbers = [number for name in sizes if (number := block_of(name)) is not None]
    named = f", {files.model}" if files.model else ""
    remedy = f"choose the model it was trained on{named}"
    for layer in layers:
        if numbers and layer.block is not None and layer.block > max(numbers):
            raise ModelError(
                f"{files.weights}: this adapter is of another model: it has {layer.name}, this "
                f"model has {max(numbers) + 1} blocks; {remedy}."
            )
        found = sizes.get(layer.name, (layer.inputs, layer.outputs))
        if found != (layer.inputs, layer.outputs):
            raise ModelError(
                f"{files.weights}: this adapter is of another model: its {layer.name} takes "
                f"{layer.inputs} values and returns {layer.outputs}, that of this model "
                f"{found[0]} and {found[1]}; {remedy}."
            )


def sizes_in(folder: Path) -> dict[str, Sizes]:
    """The sizes of a model's layers by common name, from its files' headers; none if unreadable."""
    found: dict[str, Sizes] = {}
    try:
        config = json.loads((folder / "config.json").read_bytes())
        for file in sorted(folder.glob("model*.safetensors")):
            shapes = {name: each.shape for name, each in tensors_of(file).items()}
            found |= _sizes(shapes, config)
    except (OSError, ValueError, AttributeError, ModelError):
        return {}
    return found


def _sizes(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> dict[str, Sizes]:
    found: dict[str, Sizes] = {}
    for name, shape in shapes.items():
        layer, _, part = name.rpartition(".")
        if part != "weight" or len(shape) != 2:
            continue
        outputs, inputs = shape
        if f"{layer}.scales" in shapes:
            bits = _bits(layer, config)
            if bits is None:
                continue
            inputs = inputs * 32 // bits
        is_embedding = "embed" in layer.rpartition(".")[2]
        found[common_name(layer)] = (outputs, inputs) if is_embedding else (inputs, outputs)
    return found


def _bits(layer: str, config: Mapping[str, Any]) -> int | None:
    """The bits of a quantized layer, as config.json says for it or in general."""
    general = config.get("quantization") or config.get("quantization_config") or {}
    own = general.get(layer)
    bits = own.get("bits", 4) if isinstance(own, dict) else general.get("bits")
    return bits if isinstance(bits, int) and bits > 0 else None

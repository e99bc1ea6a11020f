"""What is trained: LoRA, DoRA or whole layers. Attaches it to a model, loads and describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.tuner.dora import DoRAEmbedding, DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlxft import recipe as recipes
from mlxft.compute.arrays import named_arrays, read_arrays
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.tokenization import first_line
from mlxft.errors import ModelError, RecipeError
from mlxft.recipe import Recipe

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapters.safetensors"

_LINEAR = (LoRALinear, LoRASwitchLinear, DoRALinear)
_EMBEDDING = (LoRAEmbedding, DoRAEmbedding)


def attach(loaded: LoadedModel, recipe: Recipe) -> None:
    """Freeze the model except for what the recipe trains, initialised from its seed.

    Raises `RecipeError` if the recipe doesn't fit the model, `ModelError` if no recipe could.
    """
    model = loaded.model
    layers = len(model.layers)
    if recipe.num_layers > layers:
        raise RecipeError(
            f"num_layers is {recipe.num_layers}, but the model has {layers}; "
            f"set it to {layers} or less, or -1 for all."
        )
    model.freeze()
    mx.random.seed(recipe.seed)
    if recipe.fine_tune_type == "full":
        _unfreeze_layers(loaded, recipe.num_layers)
    else:
        _check_keys(model, recipe.lora_parameters.keys)
        _convert(model, recipe.fine_tune_type, recipe.num_layers, _lora_parameters(recipe))
        _check_dora(model)
    if not named_arrays(model.trainable_parameters()):
        if recipe.fine_tune_type != "full" and recipe.lora_parameters.keys is None:
            raise ModelError(
                f"{recipe.model}: no layer of this {loaded.model_type} model can take an adapter "
                "from mlx-lm; choose another model."
            )
        raise RecipeError(
            "num_layers and lora_parameters.keys leave nothing of this model to train; "
            "empty lora_parameters.keys."
        )
    mx.eval(model.parameters())


def compute_dtype(loaded: LoadedModel, recipe: Recipe) -> mx.Dtype | None:
    """The type that trained weights are cast to for computing; None if they keep their own.

    DoRA magnitudes do: their changes are smaller than a bfloat16 can resolve.
    """
    if recipe.fine_tune_type != "lora":
        return None
    dtype: mx.Dtype = getattr(mx, loaded.dtype)
    return dtype


def start_from(model: Any, adapter: Path, recipe: Recipe) -> None:
    """Replace the initial weights by saved ones.

    `adapter` is a safetensors file or a folder with one. Raises `ModelError` unless all weights
    fit, `RecipeError` if they were trained at another scale.
    """
    trained = named_arrays(model.trainable_parameters())
    file = adapter / WEIGHTS_NAME if adapter.is_dir() else adapter
    config_file = _config_of(file)
    if config_file is not None and recipe.fine_tune_type != "full":
        saved = _read_config(config_file).get("lora_parameters") or {}
        scale = recipe.lora_parameters.scale
        if saved.get("scale", scale) != scale:
            raise RecipeError(
                f"lora_parameters.scale is {scale:g}, but {file} was trained at "
                f"{saved['scale']:g}; set it to {saved['scale']:g}."
            )
    model.load_weights(_fitting_weights(file, trained, complete=True), strict=False)
    mx.eval(model.trainable_parameters())


def load_saved(loaded: LoadedModel, adapter: Path) -> frozenset[str]:
    """Load a saved adapter onto a model without one; returns the names of its parameters.

    `adapter` is its folder, or a safetensors file in it. Raises `ModelError`.
    """
    whole = adapter.is_dir()
    folder, file = (adapter, adapter / WEIGHTS_NAME) if whole else (adapter.parent, adapter)
    config = _read_config(folder / CONFIG_NAME)
    model, kind = loaded.model, config.get("fine_tune_type", "lora")
    if kind != "full":
        try:
            shape = {"dropout": 0.0, **config["lora_parameters"]}
            _convert(model, kind, config["num_layers"], shape)
        except (KeyError, TypeError, RecipeError) as error:
            raise ModelError(
                f"{folder / CONFIG_NAME}: this adapter doesn't fit the model ({error}); "
                "choose the model that it was trained on."
            ) from error
    parameters = named_arrays(model.parameters())
    if kind != "full":
        parameters = {name: each for name, each in parameters.items() if _is_adapter_name(name)}
    weights = _fitting_weights(file, parameters, complete=False)
    model.load_weights(weights, strict=False)
    model.eval()
    mx.eval(model.parameters())
    return frozenset(name for name, _ in weights)


def config(recipe: Recipe, folder: Path) -> bytes:
    """The contents of adapter_config.json, from which mlx_lm recreates the adapter."""
    mapping = {**recipes.to_mapping(recipe), "adapter_path": str(folder)}
    return json.dumps(mapping, indent=2, sort_keys=True).encode()


def adapted(model: Any) -> list[tuple[str, Any]]:
    """The model's LoRA and DoRA layers with their names."""
    return [(name, module) for name, module in model.named_modules() if _is_adapter(module)]


def base_of(module: Any) -> Any:
    """The layer wrapped by a LoRA or DoRA layer, not a copy."""
    return module["linear"] if "linear" in module else module["embedding"]


def _unfreeze_layers(loaded: LoadedModel, num_layers: int) -> None:
    if loaded.is_quantized:
        raise RecipeError(
            "fine_tune_type full can't train quantized weights; "
            "set it to lora or dora, or choose a model that is not quantized."
        )
    for layer in loaded.model.layers[-max(num_layers, 0) :]:
        layer.unfreeze()


def _lora_parameters(recipe: Recipe) -> dict[str, Any]:
    mapping: dict[str, Any] = recipes.to_mapping(recipe)["lora_parameters"]
    return mapping


def _convert(model: Any, kind: str, num_layers: int, parameters: dict[str, Any]) -> None:
    try:
        linear_to_lora_layers(model, num_layers, parameters, use_dora=kind == "dora")
    except ValueError as error:
        raise RecipeError(
            f"fine_tune_type {kind} can't be put on this model ({first_line(error)}); "
            "choose other lora_parameters.keys."
        ) from error


def _check_dora(model: Any) -> None:
    """Refuse DoRA on quantized layers that mlx-lm's would fail on in the first step."""
    for name, layer in adapted(model):
        bits = getattr(base_of(layer), "bits", None)
        if bits is None or not isinstance(layer, DoRALinear | DoRAEmbedding):
            continue
        if isinstance(layer, DoRAEmbedding) or 32 % bits:
            kind = (
                "quantized embedding" if isinstance(layer, DoRAEmbedding) else f"{bits}-bit layer"
            )
            raise RecipeError(
                f"fine_tune_type dora can't train the {kind} {name}; set it to lora, or leave that "
                "layer out of lora_parameters.keys."
            )


def _check_keys(model: Any, keys: tuple[str, ...] | None) -> None:
    """Refuse a key that names no layer, listing those there are."""
    if keys is None:
        return
    inner = {name for layer in model.layers for name, _ in layer.named_modules() if name}
    known = inner | {name for name, _ in model.named_modules()}
    for key in keys:
        if key not in known:
            leaves = sorted(name for name in inner if name.endswith("_proj")) or sorted(inner)
            raise RecipeError(
                f"lora_parameters.keys has {key}, which this model doesn't have; "
                f"it has {', '.join(leaves[:12])}."
            )


def _is_adapter(module: Any) -> bool:
    return isinstance(module, _LINEAR + _EMBEDDING) or (
        # A model may have its own LoRA layers; they name the base layer alike.
        "lora_a" in module and ("linear" in module or "embedding" in module)
    )


def _is_adapter_name(name: str) -> bool:
    """Whether an adapter file can contain a parameter of this name."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b", "m")


def _fitting_weights(
    file: Path, expected: Mapping[str, mx.array], *, complete: bool
) -> list[tuple[str, mx.array]]:
    """The file's arrays, cast to the types of those they replace. Raises `ModelError`."""
    try:
        found = read_arrays(file)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(
            f"{file}: the adapter can't be read ({first_line(error)}); choose another one."
        ) from error
    if any(name.startswith("base_model.") for name in found):
        raise _peft_error(file)
    misfit = next((name for name in found if name not in expected), None) or next(
        (name for name in expected if complete and name not in found), None
    )
    misfit = misfit or next(
        (name for name, array in found.items() if array.shape != expected[name].shape), None
    )
    if misfit is not None or not found:
        raise ModelError(
            f"{file}: these weights don't fit this model and recipe (see {misfit}); "
            "rank, num_layers, keys and model must be those they were trained with."
        )
    return [(name, array.astype(expected[name].dtype)) for name, array in found.items()]


def _peft_error(file: Path) -> ModelError:
    return ModelError(
        f"{file}: this is an adapter of PEFT, which is stored differently; merge it into its model "
        "with PEFT's merge_and_unload, and convert that with mlx_lm convert."
    )


def _read_config(file: Path) -> dict[str, Any]:
    """An adapter_config.json of mlx-lm. Raises `ModelError`, also for layouts of other versions."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(
            f"{file.parent}: this is not an adapter folder: it has no valid {CONFIG_NAME}; "
            "choose the folder of a run."
        )
    if "peft_type" in config:
        raise _peft_error(file.parent)
    if change := _outdated(config):
        raise ModelError(f"{file}: this is the layout of an old mlx-lm; {change}.")
    return config


def _config_of(file: Path) -> Path | None:
    """The config beside an adapter file, or that of the run whose checkpoint the file is in."""
    places = (file.resolve().parent, file.resolve().parent.parent.parent)
    run_of_checkpoint = file.resolve().parent.parent.name == "checkpoints"
    found = (place / CONFIG_NAME for place in places[: 1 + run_of_checkpoint])
    return next((each for each in found if each.is_file()), None)


def _outdated(config: Mapping[str, Any]) -> str:
    """What to change in the config of an old mlx-lm, as a clause; empty if nothing."""
    shape = config.get("lora_parameters")
    if "num_layers" not in config and "lora_layers" in config:
        return "rename lora_layers to num_layers"
    if "fine_tune_type" not in config and config.get("use_dora"):
        return "replace use_dora by fine_tune_type, which is dora"
    if isinstance(shape, dict) and "alpha" in shape and "scale" not in shape:
        return "replace alpha in lora_parameters by scale, which is alpha / rank"
    return ""

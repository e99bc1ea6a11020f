"""A model fused with its adapter, as mlx_lm stores models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.utils import (
    get_total_parameters,
    load_model,
    make_shards,
    quantize_model,
    save_config,
)

from mlxft.compute.arrays import save_arrays
from mlxft.compute.models import adapters, loading
from mlxft.compute.models.loading import LoadedModel
from mlxft.errors import ModelError
from mlxft.export.types import Quantize
from mlxft.recipe.chat_template import FILE_NAME

SHARD_GB: Final = 1
"""Size of a weights file; the arrays of one exist in memory at a time, beside the model."""

_GROUP_SIZES: Final = {"mxfp4": 32, "nvfp4": 16, "mxfp8": 32}
_MODE_BITS: Final = {"mxfp4": 4, "nvfp4": 4, "mxfp8": 8}
_AFFINE_GROUPS: Final = (64, 32)
"""The usual size of a group, and the one for models whose width that doesn't divide."""

_OWN_FILES: Final = ("*.safetensors", "*.safetensors.index.json", "config.json", "README.md", ".*")
"""What an export writes itself, or leaves out; all other files of the model are copied."""


def fused(
    path: Path, adapter: Path, quantize: Quantize, *, trust_remote_code: bool
) -> tuple[Any, dict[str, Any]]:
    """The model with the adapter in its weights, and its config. Raises `ModelError`."""
    model, config = load_model(path, lazy=True, trust_remote_code=trust_remote_code)
    loaded = LoadedModel(model, config, "", "", 0)
    dtype = loading.stored_dtype(model)
    adapters.load_saved(loaded, adapter, lazy=True)
    layers = adapters.adapted(model)
    _check_scales(layers, quantize)
    model.update_modules(
        tree_unflatten([(name, _fused(layer, quantize)) for name, layer in layers])
    )
    if not quantize.keeps:
        loading.dequantize(model)
        config = {
            key: value
            for key, value in config.items()
            if key not in ("quantization", "quantization_config")
        }
        model.update(tree_map(lambda each: _cast(each, dtype), model.parameters()))
    if quantize.bits or quantize.mode:
        mode = quantize.mode or "affine"
        model, config = quantize_model(
            model,
            config,
            _GROUP_SIZES.get(mode) or _affine_group(config),
            quantize.bits or _MODE_BITS[mode],
            mode=mode,
        )
    return model, config


def _fused(layer: Any, quantize: Quantize) -> Any:
    """A layer with its adapter in the weights, in the types that the layer has."""
    base = adapters.base_of(layer)
    dtype = (base.scales if "scales" in base else base.weight).dtype
    whole = layer.fuse(dequantize=not quantize.keeps)
    if "scales" not in whole:
        whole.weight = whole.weight.astype(
            dtype if mx.issubdtype(dtype, mx.floating) else mx.bfloat16
        )
    return whole


def _affine_group(config: dict[str, Any]) -> int:
    width = config.get("hidden_size") or config.get("text_config", {}).get("hidden_size") or 0
    usual, smaller = _AFFINE_GROUPS
    return smaller if width % usual else usual


def _check_scales(layers: list[tuple[str, Any]], quantize: Quantize) -> None:
    """Refuse layers with a scale for the whole tensor, which fusing would lose."""
    for name, layer in layers:
        if getattr(adapters.base_of(layer), "global_scale", None) is not None:
            raise ModelError(
                f"{name}: an adapter on nvfp4 weights with a tensor scale can't be fused; export "
                "the adapter alone with --to adapter or --to peft."
            )


def _cast(array: mx.array, dtype: mx.Dtype) -> mx.array:
    return array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array


def write(
    model: Any,
    config: dict[str, Any],
    source: Path,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write weights, config and the model's other files; `on_progress` gets bytes done and total.

    The model's arrays are freed as they are written. Raises `OSError` or `RuntimeError`.
    """
    weights = dict(tree_flatten(model.parameters()))
    parameters, total = get_total_parameters(model), sum(each.nbytes for each in weights.values())
    shards = make_shards(weights, SHARD_GB)
    model.update(tree_map(lambda _: mx.array([]), model.parameters()))
    weights.clear()
    places: dict[str, str] = {}
    done = 0
    on_progress(0, total)
    for number, name in enumerate(_shard_names(len(shards))):
        shard, shards[number] = shards[number], {}
        for each in shard.values():  # All at once, MLX would read every layer before it fuses one.
            mx.eval(each)
        save_arrays(folder / name, shard)
        places.update(dict.fromkeys(shard, name))
        done += sum(each.nbytes for each in shard.values())
        del shard
        mx.clear_cache()
        on_progress(done, total)
    index = {
        "metadata": {"total_size": total, "total_parameters": parameters},
        "weight_map": dict(sorted(places.items())),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=4))
    save_config(config, folder / "config.json", keep_vision_config="vision_config" in config)
    _copy_others(source, folder)


def write_template(template: str, folder: Path) -> None:
    """Replace the model's chat template in both files that tools read it from.

    Raises `OSError`.
    """
    (folder / FILE_NAME).write_text(template, "utf-8")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    settings.pop("chat_template_type", None)  # mlx_lm's name of a function that writes prompts.
    settings["chat_template"] = template
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False), "utf-8")


def _shard_names(count: int) -> Iterator[str]:
    if count == 1:
        yield "model.safetensors"
        return
    for number in range(1, count + 1):
        yield f"model-{number:05d}-of-{count:05d}.safetensors"


def _copy_others(source: Path, folder: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and not any(file.match(each) for each in _OWN_FILES):
            shutil.copyfile(file, folder / file.name)

"""An adapter as PEFT stores it: the same products from transposed matrices."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear

from mlxft.adapters.files import CONFIG_NAME, PEFT_WEIGHTS_NAME
from mlxft.adapters.peft import PREFIX
from mlxft.compute.arrays import save_arrays
from mlxft.compute.models import adapters
from mlxft.errors import ModelError

Layer = tuple[str, Any]
"""A layer's name in mlx-lm, which is transformers' too, and the layer with its adapter."""


def write(layers: Iterable[Layer], base: str, folder: Path) -> None:
    """Write an adapter's layers; `base` names the model. Raises `ModelError` for what PEFT lacks.

    Every layer is listed by its whole name, since PEFT passes over arrays of layers that are not
    listed, without a word.
    """
    found = tuple(layers)
    if not found:
        raise ModelError("A full fine-tune has no adapter; export the model with --to mlx instead.")
    for name, layer in found:
        _check(name, layer)
    config = _config([name for name, _ in found], found[0][1], base)
    arrays = {f"{PREFIX}{key}": each for name, layer in found for key, each in _arrays(name, layer)}
    save_arrays(folder / PEFT_WEIGHTS_NAME, arrays, framework="pt")
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _check(name: str, layer: Any) -> None:
    if isinstance(layer, LoRALinear | DoRALinear):
        return
    kind = type(adapters.base_of(layer)).__name__
    reason = (
        "PEFT adapts an embedding for the input only"
        if "Embedding" in kind
        else "transformers keeps a layer's experts in one array, which PEFT's LoRA can't hold"
    )
    raise ModelError(
        f"{name}: {reason}; export the fused model with --to mlx, or train without it in "
        "lora_parameters.keys."
    )


def _config(names: list[str], layer: Any, base: str) -> dict[str, Any]:
    rank = int(layer.lora_a.shape[-1])
    return {
        "alpha_pattern": {},
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank * float(layer.scale),
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "target_modules": names,
        "task_type": "CAUSAL_LM",
        "use_dora": isinstance(layer, DoRALinear),
        "use_rslora": False,
    }


def _arrays(name: str, layer: Any) -> Iterable[tuple[str, mx.array]]:
    yield f"{name}.lora_A.weight", mx.contiguous(layer.lora_a.T)
    yield f"{name}.lora_B.weight", mx.contiguous(layer.lora_b.T)
    if isinstance(layer, DoRALinear):
        yield f"{name}.lora_magnitude_vector", layer.m

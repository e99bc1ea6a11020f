"""An adapter as PEFT stores it: the same products from transposed matrices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.tuner.dora import DoRAEmbedding, DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear

from mlxft.adapters.files import CONFIG_NAME, PEFT_WEIGHTS_NAME
from mlxft.adapters.peft import PREFIX
from mlxft.compute.arrays import save_arrays
from mlxft.compute.models.trained_rows import TrainedRows
from mlxft.errors import ModelError

Layer = tuple[str, Any]
"""A layer's name in mlx-lm, which is transformers' too, and the layer with its adapter."""


def write(
    layers: Iterable[Layer],
    base: str,
    folder: Path,
    *,
    tied: bool,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write an adapter's layers; `base` names the model, whose embedding is its head if `tied`.

    `more` is kept in the metadata of its file.

    Raises `ModelError` for what PEFT lacks.

    Every layer is listed by its whole name, since PEFT passes over arrays of layers that are not
    listed, without a word.
    """
    found = tuple(layers)
    if not found:
        raise ModelError("A full fine-tune has no adapter; export the model with --to mlx instead.")
    for name, layer in found:
        _check(name, layer, tied=tied)
    whole = [name for name, layer in found if isinstance(layer, TrainedRows)]
    low_rank = [(name, layer) for name, layer in found if name not in whole]
    config = _config([name for name, _ in low_rank], low_rank[0][1], base)
    config["modules_to_save"] = [name.rpartition(".")[2] for name in whole] or None
    arrays = {f"{PREFIX}{key}": each for name, layer in found for key, each in _arrays(name, layer)}
    save_arrays(folder / PEFT_WEIGHTS_NAME, arrays, framework="pt", more=more)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _check(name: str, layer: Any, *, tied: bool) -> None:
    is_known = isinstance(layer, LoRALinear | DoRALinear | LoRAEmbedding | TrainedRows)
    if is_known and not (isinstance(layer, LoRAEmbedding | TrainedRows) and tied):
        return
    key = "lora_parameters.keys"
    if isinstance(layer, TrainedRows):
        reason = "PEFT trains an embedding for the input only, and this one is the head too"
        key = "train_embeddings"
    elif isinstance(layer, LoRAEmbedding):
        reason = "PEFT adapts an embedding for the input only, and this one is the head too"
    elif isinstance(layer, DoRAEmbedding):
        reason = "DoRA on an embedding is not the same in PEFT"
    else:
        reason = "transformers keeps a layer's experts in one array, which PEFT's LoRA can't hold"
    raise ModelError(
        f"{name}: {reason}; export the fused model with --to mlx, or train without it in {key}."
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
    if isinstance(layer, TrainedRows):
        for part, array in layer.fuse(dequantize=True).parameters().items():
            yield f"{name}.{part}", array
        return
    if isinstance(layer, LoRAEmbedding):
        yield f"{name}.lora_embedding_A", mx.contiguous(layer.lora_a.T)
        yield f"{name}.lora_embedding_B", mx.contiguous(layer.lora_b.T)
        return
    yield f"{name}.lora_A.weight", mx.contiguous(layer.lora_a.T)
    yield f"{name}.lora_B.weight", mx.contiguous(layer.lora_b.T)
    if isinstance(layer, DoRALinear):
        yield f"{name}.lora_magnitude_vector", layer.m

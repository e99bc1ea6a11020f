"""Adapters as PEFT saves them, and the model with one merged into its weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save_file

PREFIX = "base_model.model."

ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")


def make_peft_adapter(
    folder: Path,
    model: Path,
    *,
    rank: int = 4,
    keys: Sequence[str] = ATTENTION,
    blocks: Sequence[int] = (0, 1),
    dora: bool = False,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write an adapter of random weights for some layers of a llama; returns its folder."""
    random = np.random.default_rng(seed)
    weights = load_file(model / "model.safetensors")
    arrays: dict[str, np.ndarray] = {}
    for block in blocks:
        for key in keys:
            layer = f"model.layers.{block}.{key}"
            outputs, inputs = weights[f"{layer}.weight"].shape
            a = random.normal(0, inputs**-0.5, (rank, inputs))
            b = random.normal(0, 0.1, (outputs, rank))
            arrays[f"{PREFIX}{layer}.lora_A.weight"] = a.astype(np.float32)
            arrays[f"{PREFIX}{layer}.lora_B.weight"] = b.astype(np.float32)
            if dora:
                m = random.uniform(0.5, 1.5, outputs).astype(np.float32)
                arrays[f"{PREFIX}{layer}.lora_magnitude_vector"] = m
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays, folder / "adapter_model.safetensors", {"format": "pt"})
    described = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(model),
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.05,
        "target_modules": [each.rpartition(".")[2] for each in keys],
        "use_dora": dora,
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**described, **config}))
    return folder


def merged(model: Path, adapter: Path, scales: Mapping[str, float], target: Path) -> Path:
    """A copy of the model with the adapter in its weights, at the scale of each layer's key."""
    shutil.copytree(model, target)
    weights = load_file(model / "model.safetensors")
    arrays = load_file(adapter / "adapter_model.safetensors")
    for name in [each for each in arrays if each.endswith(".lora_A.weight")]:
        layer = name.removesuffix(".lora_A.weight")
        key = layer.partition("layers.")[2].partition(".")[2]
        changed = weights[f"{layer.removeprefix(PREFIX)}.weight"]
        changed = changed + scales[key] * arrays[f"{layer}.lora_B.weight"] @ arrays[name]
        if (m := arrays.get(f"{layer}.lora_magnitude_vector")) is not None:
            changed = changed * (m / np.linalg.norm(changed, axis=1))[:, None]
        weights[f"{layer.removeprefix(PREFIX)}.weight"] = changed
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    return target


def logits(model: Any) -> np.ndarray:
    """What a model says of a few tokens."""
    return np.array(model(mx.array([[3, 1, 4, 1, 5, 9, 2, 6]])).astype(mx.float32))

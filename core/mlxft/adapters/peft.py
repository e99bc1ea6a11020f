"""PEFT's adapter_config.json: each layer's rank and scale, and what mlx-lm's layers can't do."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlxft.errors import ModelError

PREFIX: Final = "base_model.model."

_DESCRIPTIVE: Final = frozenset(
    {
        "alora_invocation_tokens_text",
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    }
)
"""Keys that say how the adapter was trained; what it is, its weights show."""

_READ: Final = frozenset(
    {
        "alpha_pattern",
        "bias",
        "init_lora_weights",
        "lora_alpha",
        "modules_to_save",
        "peft_type",
        "r",
        "rank_pattern",
        "use_dora",
        "use_rslora",
    }
)

_WHOLE: Final = frozenset({"embed_in", "embed_out", "embed_tokens", "lm_head", "wte"})
"""Layers of `modules_to_save` that can be trained whole here."""

_KEEPS_BASE: Final = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initial weights that leave the model's own as they are."""


@dataclass(frozen=True, kw_only=True)
class PeftConfig:
    """How an adapter of PEFT is to be applied."""

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    """Ranks and alphas of layers that have their own, by a pattern of their names."""
    rank_stabilized: bool
    dora: bool
    dropout: float
    whole: tuple[str, ...] = ()
    """Embedding and head, if they were trained whole."""

    def is_whole(self, layer: str) -> bool:
        """Whether a layer was trained whole; `layer` is its name in PEFT or in common."""
        return any(f".{layer}".endswith(f".{each.rpartition('.')[2]}") for each in self.whole)

    def rank_of(self, path: str) -> int:
        """The rank that a layer's matrices must have; `path` is PEFT's."""
        return int(_own(self.ranks, path.removeprefix(PREFIX), self.rank))

    def scale_of(self, path: str) -> float:
        """What mlx-lm multiplies the product of a layer's two matrices by; `path` is PEFT's."""
        rank, alpha = self.rank_of(path), _own(self.alphas, path.removeprefix(PREFIX), self.alpha)
        return float(alpha / (math.sqrt(rank) if self.rank_stabilized else rank))


def peft_config(config: Mapping[str, Any], file: Path) -> PeftConfig:
    """Read a config. Raises `ModelError` naming what can't be applied as it was trained."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _refusal(file, f"peft_type {kind}")
    listed = config.get("modules_to_save")
    modules = tuple(map(str, listed if isinstance(listed, list) else [listed] if listed else []))
    if other := [each for each in modules if each.rpartition(".")[2] not in _WHOLE]:
        raise _refusal(file, f"modules_to_save ({_listed(other)}), whole layers beside LoRA's")
    if config.get("bias", "none") != "none":
        raise _refusal(file, f"trained biases (bias is {config['bias']})")
    start = config.get("init_lora_weights", True)
    if start not in _KEEPS_BASE:
        raise _refusal(file, f"init_lora_weights {start}, which also changes the model's weights")
    for key, value in config.items():
        if value and key not in _DESCRIPTIVE and key not in _READ:
            raise _refusal(file, f"{key} ({_listed(value)})")
    try:
        found = PeftConfig(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            ranks={key: int(value) for key, value in (config.get("rank_pattern") or {}).items()},
            alphas={
                key: float(value) for key, value in (config.get("alpha_pattern") or {}).items()
            },
            rank_stabilized=bool(config.get("use_rslora")),
            dora=bool(config.get("use_dora")),
            dropout=float(config.get("lora_dropout") or 0.0),
            whole=modules,
        )
        if min(found.rank, *found.ranks.values(), 1) < 1 or not all(
            map(math.isfinite, (found.alpha, *found.alphas.values()))
        ):
            raise ValueError
        for pattern in (*found.ranks, *found.alphas):
            re.compile(pattern)
        return found
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, re.error):
        raise ModelError(
            f"{file}: this is not a complete config of PEFT: r and lora_alpha must be numbers; "
            "save the adapter again with PEFT's save_pretrained."
        ) from None


def _own(patterns: Mapping[str, float], layer: str, usual: float) -> Any:
    """The value of the first pattern that a layer's name ends with, as PEFT finds it."""
    matching = (each for each in patterns if re.match(rf"(.*\.)?({each})$", layer))
    return patterns.get(next(matching, ""), usual)


def _listed(value: object) -> str:
    if isinstance(value, list | tuple | dict):
        return ", ".join(str(each) for each in value)
    return str(value)


def _refusal(file: Path, what: str) -> ModelError:
    return ModelError(
        f"{file}: this adapter of PEFT has {what}, which mlx-lm's LoRA layers can't hold; merge it "
        "into its model with PEFT's merge_and_unload, and convert that with mlx_lm convert."
    )

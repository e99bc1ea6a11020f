"""Model families as llama.cpp knows them, and what of a model it would compute otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from gguf import MODEL_ARCH
from mlx_lm.utils import _get_classes

from mlxft.errors import ModelError

Values = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """llama.cpp's architecture, and how its arrays differ from mlx-lm's."""

    architecture: MODEL_ARCH
    rotates_pairs: bool = False
    """Whether it rotates neighbouring values of a head instead of the two halves."""
    unrotated_interval: int | None = None
    """Every how many layers it rotates none, whatever the model says."""
    adds_one: bool = False
    """Whether norms are stored with the one that mlx-lm adds to them."""
    windows: int | None = None
    """Every how many layers attention sees all tokens, whatever the model says."""
    is_fused: bool = False
    """Whether queries, keys and values are one array, and gate and up projection, too."""


FAMILIES: Final[Mapping[str, Family]] = {
    "gemma": Family(architecture=MODEL_ARCH.GEMMA, adds_one=True),
    "gemma2": Family(architecture=MODEL_ARCH.GEMMA2, adds_one=True, windows=2),
    "gemma3_text": Family(architecture=MODEL_ARCH.GEMMA3, adds_one=True, windows=6),
    "granite": Family(architecture=MODEL_ARCH.GRANITE, rotates_pairs=True),
    "llama": Family(architecture=MODEL_ARCH.LLAMA, rotates_pairs=True),
    "mistral": Family(architecture=MODEL_ARCH.LLAMA, rotates_pairs=True),
    "olmo2": Family(architecture=MODEL_ARCH.OLMO2),
    "phi3": Family(architecture=MODEL_ARCH.PHI3, is_fused=True),
    "qwen2": Family(architecture=MODEL_ARCH.QWEN2),
    "qwen3": Family(architecture=MODEL_ARCH.QWEN3),
    "qwen3_moe": Family(architecture=MODEL_ARCH.QWEN3MOE),
    "smollm3": Family(architecture=MODEL_ARCH.SMOLLM3, rotates_pairs=True, unrotated_interval=4),
}

_LARGEST: Final = {"gemma2": 46, "gemma3_text": 62}
"""Layers of the 27B models, whose scores llama.cpp scales by another number."""

_LOCAL_BASE: Final = 10000.0
"""The base of rotations within windows."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a model. Raises `ModelError` for those that aren't written."""
    name = str(config.get("model_type", ""))
    if name not in FAMILIES:
        raise ModelError(
            f"{name} models are not written as GGUF, only {', '.join(FAMILIES)}; export with --to "
            "mlx, and convert that with llama.cpp's convert_hf_to_gguf.py."
        )
    family = FAMILIES[name]
    if lacking := _lacking(name, family, completed(config)):
        raise ModelError(
            f"This {name} model has {lacking}, which llama.cpp computes otherwise for this family; "
            "export with --to mlx."
        )
    return family


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with mlx-lm's defaults for what it doesn't say."""
    _, arguments = _get_classes(dict(config))
    defaults = vars(arguments.from_dict(config))
    # Some of mlx-lm's families compute the size of a head, whatever the config says.
    own = {key: value for key, value in config.items() if key != "head_dim" or key in defaults}
    return {**defaults, **own}


def _lacking(name: str, family: Family, config: Mapping[str, Any]) -> str:
    """What of a model llama.cpp's architecture can't do, or empty."""
    if not family.windows and "sliding_attention" in (config.get("layer_types") or ()):
        return "layers with sliding windows"
    if config.get("no_rope_layer_interval", family.unrotated_interval) != family.unrotated_interval:
        return f"a no_rope_layer_interval of {config['no_rope_layer_interval']}"
    if family.architecture == MODEL_ARCH.QWEN3MOE:
        if not config.get("norm_topk_prob"):
            return "experts whose shares don't add up to one"
        if config.get("decoder_sparse_step", 1) != 1 or config.get("mlp_only_layers"):
            return "layers without experts"
    size = int(config["hidden_size"]) // int(config["num_attention_heads"])
    if family.architecture == MODEL_ARCH.OLMO2 and config.get("head_dim", size) != size:
        return f"heads of {config['head_dim']} values"
    return _lacking_of_gemma(name, family, config) if family.windows else ""


def _lacking_of_gemma(name: str, family: Family, config: Mapping[str, Any]) -> str:
    is_largest = config["num_hidden_layers"] == _LARGEST[name]
    usual = (
        config["hidden_size"] / config["num_attention_heads"] if is_largest else config["head_dim"]
    )
    if config["query_pre_attn_scalar"] != usual:
        return f"a query_pre_attn_scalar of {config['query_pre_attn_scalar']:g}"
    pattern = config.get("sliding_window_pattern", family.windows)
    if pattern != family.windows:
        return f"a sliding_window_pattern of {pattern}"
    if config.get("rope_local_base_freq", _LOCAL_BASE) != _LOCAL_BASE:
        return f"a rope_local_base_freq of {config['rope_local_base_freq']:g}"
    return ""


def llama3_factors(scaling: Mapping[str, Any], base: float, size: int) -> Values:
    """What Llama 3's scaling divides each frequency of a head by, as in transformers and mlx-lm."""
    factor = float(scaling["factor"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    context = float(scaling["original_max_position_embeddings"])
    wavelengths = 2 * math.pi * base ** (np.arange(0, size, 2) / size)
    smooth = (context / wavelengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(
        wavelengths < context / high, 1.0, np.where(wavelengths > context / low, factor, between)
    )
    return factors.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Heads of queries and of keys, and the values of one."""

    queries: int
    keys: int
    size: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Heads:
        """Those of a completed config."""
        queries = int(config["num_attention_heads"])
        return cls(
            queries=queries,
            keys=int(config.get("num_key_value_heads") or queries),
            size=int(config.get("head_dim") or config["hidden_size"] // queries),
        )

    def laid_out(self, name: str, values: Values) -> Values:
        """Rows of queries and keys so that a head's halves alternate, as llama.cpp rotates them."""
        count = self._count(name)
        if count is None:
            return values
        halves = values.reshape(count, 2, -1, *values.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)

    def restored(self, name: str, values: Values) -> Values:
        """The inverse of `laid_out`."""
        count = self._count(name)
        if count is None:
            return values
        pairs = values.reshape(count, -1, 2, *values.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)

    def _count(self, name: str) -> int | None:
        last = name.rpartition(".")[2]
        return {"q_proj": self.queries, "k_proj": self.keys}.get(last)

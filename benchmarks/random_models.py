"""Models with random weights in the shapes of known ones, for benchmarks.

Importing this module doesn't load MLX.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import mlxft

if TYPE_CHECKING:
    from mlxft.compute.measuring.random_models import Started
    from mlxft.compute.models.loading import LoadedModel
    from mlxft.compute.training.attention import Backend
    from mlxft.recipe import Recipe

_LLAMA: Final[dict[str, Any]] = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}


def llama(
    *,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv: int,
    vocabulary: int,
    head_dim: int | None = None,
) -> dict[str, Any]:
    """The config of a llama; heads share the hidden size unless `head_dim` is given."""
    return {
        **_LLAMA,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head_dim or hidden // heads,
        "vocab_size": vocabulary,
    }


SHAPES: Final[dict[str, dict[str, Any]]] = {
    "tiny": llama(hidden=128, inner=384, layers=2, heads=2, kv=1, vocabulary=1024),
    "small": llama(hidden=128, inner=384, layers=4, heads=2, kv=1, vocabulary=4096),
    "narrow": llama(hidden=256, inner=768, layers=8, heads=8, kv=2, vocabulary=4096),
    "135m": llama(hidden=576, inner=1536, layers=30, heads=9, kv=3, vocabulary=49152),
    "1b": llama(hidden=2048, inner=8192, layers=16, heads=32, kv=8, vocabulary=128256),
    "3b": llama(hidden=3072, inner=8192, layers=28, heads=24, kv=8, vocabulary=128256),
    "head256": llama(
        hidden=2304, inner=9216, layers=26, heads=8, kv=4, vocabulary=256000, head_dim=256
    ),
}
"""Llama 3.2 1B and 3B, SmolLM2 135M, and one with the sizes and heads of Gemma 2 2B."""

GROUP: Final = {"affine": 64, "mxfp4": 32, "nvfp4": 16, "mxfp8": 32}
"""Weights that share a scale, by the kind of quantized weights."""

BITS: Final = {"mxfp4": 4, "nvfp4": 4, "mxfp8": 8}
"""Bits of the kinds that have no other."""


def quantization(bits: int | None, mode: str = "affine") -> dict[str, Any]:
    """The entries of config.json for quantized weights; none for dense ones."""
    bits = BITS.get(mode, bits)
    if bits is None:
        return {}
    described = {"group_size": GROUP[mode], "bits": bits, "mode": mode}
    if mode == "affine":
        described.pop("mode")
    return {"quantization": described, "torch_dtype": "bfloat16"}


def described(shape: str, bits: int | None = None, mode: str = "affine") -> dict[str, Any]:
    """The config.json of a shape with these weights."""
    return {**SHAPES[shape], **quantization(bits, mode)}


def build(config: dict[str, Any], dtype: str) -> Any:
    """A model of a config.json with random weights, evaluated, in an MLX with its own settings."""
    # Imported, it would bring those of this trainer along, which others don't have.
    file = Path(mlxft.__file__).parent / "compute" / "measuring" / "random_weights.py"
    return runpy.run_path(str(file))["random_model"](config, dtype)


def started(
    loaded: LoadedModel, recipe: Recipe, longest: int, on: Backend | None = None
) -> Started:
    """What trains a model that has the recipe's adapter as a run does, for rows of so many tokens.

    Ends the process if a run would not follow the recipe: something else would be measured.
    """
    from mlxft.compute.measuring import random_models

    found = random_models.started(loaded, recipe, longest, on)
    if found.warnings:
        raise SystemExit(f"Something else would be measured: {found.warnings[0]}")
    return found

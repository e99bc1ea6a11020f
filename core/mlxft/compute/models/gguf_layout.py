"""The names of a family's arrays in a GGUF file, and their values in mlx-lm's order."""

from __future__ import annotations

from typing import Final

import gguf
import numpy as np

from mlxft.compute.models.gguf_families import Family, Heads, Values
from mlxft.errors import ModelError

ROPE_FACTORS: Final = "rope_freqs.weight"
"""A tensor that belongs to no layer: what Llama 3 divides its frequencies by."""

_SUFFIXES: Final = (".weight", ".bias")
_SWITCH: Final = "mlp.switch_mlp"
_EXPERTS: Final = "mlp.experts"
"""mlx-lm's name of all experts of a layer, and that of transformers."""

_PARTS: Final = (
    *(f"self_attn.{part}" for part in ("o_proj", "q_norm", "k_norm")),
    "mlp.down_proj",
    *(f"{_SWITCH}.{part}" for part in ("gate_proj", "up_proj", "down_proj")),
    "mlp.gate",
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_FUSED: Final = ("self_attn.qkv_proj", "mlp.gate_up_proj")
_APART: Final = (
    *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj")),
    *(f"mlp.{part}" for part in ("gate_proj", "up_proj")),
)
"""Projections that some families hold in one array."""


def place_of(name: str, names: gguf.TensorNameMap) -> str:
    """The name in the file of one of mlx-lm's arrays. Raises `ModelError` if there is none."""
    place = names.get_name(name.replace(_SWITCH, _EXPERTS), try_suffixes=_SUFFIXES)
    if place is None:
        raise ModelError(
            f"{name}: llama.cpp's layout of this family has no such array; export with --to mlx."
        )
    return place


def names_of_places(family: Family, layers: int) -> dict[str, str]:
    """mlx-lm's names by GGUF's, of all layers that a model of the family may have."""
    names = gguf.get_tensor_name_map(family.architecture, layers)
    found = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for layer in range(layers):
        for part in (*_PARTS, *(_FUSED if family.is_fused else _APART)):
            name = f"model.layers.{layer}.{part}"
            if (place := names.get_name(name.replace(_SWITCH, _EXPERTS))) is not None:
                found[place] = name
    return found


def stored(name: str, values: Values, family: Family, heads: Heads) -> Values:
    """A layer's weight or bias as llama.cpp lays it out; `name` is the layer's."""
    if family.adds_one and name.endswith("norm"):
        return values + 1
    return heads.laid_out(name, values) if family.rotates_pairs else values


def restored(name: str, values: Values, family: Family, heads: Heads) -> Values:
    """The inverse of `stored`."""
    if family.adds_one and name.endswith("norm"):
        return np.asarray(values - 1)
    return heads.restored(name, values) if family.rotates_pairs else values

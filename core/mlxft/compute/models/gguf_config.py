"""config.json of a GGUF file's model, from its metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from mlxft.compute.models.gguf_families import FAMILIES, Heads, family_of, llama3_factors
from mlxft.compute.models.gguf_file import GgufFile
from mlxft.compute.models.gguf_layout import ROPE_FACTORS
from mlxft.errors import ModelError

_ARCHITECTURES: Final = {
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3",
    "granite": "Granite",
    "llama": "Llama",
    "olmo2": "Olmo2",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "smollm3": "SmolLM3",
}
"""The names of transformers' classes."""

_LLAMA3: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_CONTEXTS: Final = tuple(2**power for power in range(7, 21))
"""Original contexts that Llama 3's scaling is looked for among; the file has only its factors."""

_LARGEST: Final = {"gemma2": 46, "gemma3_text": 62}
"""Layers of the models whose scores are scaled by their width instead of a head's size."""


def config_of(file: GgufFile) -> dict[str, Any]:
    """The config. Raises `ModelError` for a model that mlx-lm would compute otherwise."""
    name, _ = file.family
    width, heads = (
        int(file.need_own("embedding_length")),
        int(file.need_own("attention.head_count")),
    )
    size = int(file.own("attention.key_length") or width // heads)
    config = {
        "architectures": [f"{_ARCHITECTURES[name]}ForCausalLM"],
        "model_type": name,
        "hidden_size": width,
        "intermediate_size": int(file.need_own("feed_forward_length")),
        "num_hidden_layers": file.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": int(file.own("attention.head_count_kv") or heads),
        "head_dim": size,
        "rms_norm_eps": float(file.need_own("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(file.own("rope.freq_base") or 10000.0),
        "max_position_embeddings": int(file.need_own("context_length")),
        "vocab_size": len(file.need("tokenizer.ggml.tokens")),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
        "hidden_act": "gelu_pytorch_tanh" if name.startswith("gemma") else "silu",
        **_tokens(file),
        **dict(_particulars(file, name, size)),
    }
    if scaling := _scaling(file, config):
        config["rope_scaling"] = scaling
    _check(file, config)
    return config


def _tokens(file: GgufFile) -> dict[str, Any]:
    """Special tokens; an answer may end with either of two."""
    end, turn = file.need("tokenizer.ggml.eos_token_id"), file.get("tokenizer.ggml.eot_token_id")
    ends = [int(end)] if turn in (None, end) else [int(end), int(turn)]
    found = {
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": file.get("tokenizer.ggml.padding_token_id"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _particulars(file: GgufFile, name: str, size: int) -> Iterator[tuple[str, Any]]:
    """What only some families have."""
    match name:
        case "gemma2" | "gemma3_text":
            is_largest = file.layers == _LARGEST[name]
            width = int(file.need_own("embedding_length"))
            heads = int(file.need_own("attention.head_count"))
            yield "query_pre_attn_scalar", width / heads if is_largest else float(size)
            yield "sliding_window", int(file.need_own("attention.sliding_window"))
            yield "hidden_activation", "gelu_pytorch_tanh"
            if name == "gemma2":
                yield "attn_logit_softcapping", float(file.own("attn_logit_softcapping") or 50.0)
                yield "final_logit_softcapping", float(file.own("final_logit_softcapping") or 30.0)
            else:
                yield "sliding_window_pattern", FAMILIES[name].windows
        case "granite":
            yield "embedding_multiplier", float(file.own("embedding_scale") or 1.0)
            yield "residual_multiplier", float(file.own("residual_scale") or 1.0)
            yield "attention_multiplier", float(file.own("attention.scale") or size**-0.5)
            yield "logits_scaling", float(file.own("logit_scale") or 1.0)
        case "phi3":
            context = int(file.need_own("context_length"))
            yield "original_max_position_embeddings", context
            yield "partial_rotary_factor", int(file.own("rope.dimension_count") or size) / size
            if window := file.own("attention.sliding_window"):
                yield "sliding_window", int(window)
        case "qwen3_moe":
            yield "num_experts", int(file.need_own("expert_count"))
            yield "num_experts_per_tok", int(file.need_own("expert_used_count"))
            yield "moe_intermediate_size", int(file.need_own("expert_feed_forward_length"))
            yield "norm_topk_prob", True
            yield "decoder_sparse_step", 1
            yield "mlp_only_layers", []
        case "smollm3":
            yield "no_rope_layer_interval", FAMILIES[name].unrotated_interval
            yield (
                "no_rope_layers",
                [
                    int(bool((each + 1) % (FAMILIES[name].unrotated_interval or 1)))
                    for each in range(file.layers)
                ],
            )


def _scaling(file: GgufFile, config: Mapping[str, Any]) -> dict[str, Any]:
    """How positions are stretched; empty if they aren't."""
    if ROPE_FACTORS in file.tensors:
        return _llama3_scaling(file, config)
    kind = file.own("rope.scaling.type") or "none"
    factor = float(file.own("rope.scaling.factor") or file.own("rope.scale_linear") or 1.0)
    if kind == "none" and factor == 1.0:
        return {}
    if kind in ("none", "linear"):
        return {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        raise ModelError(
            f"{file.path}: a model whose positions are scaled by {kind} can't be imported from "
            "GGUF; use its Hugging Face original."
        )
    original = int(file.need_own("rope.scaling.original_context_length"))
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
    }


def _llama3_scaling(file: GgufFile, config: Mapping[str, Any]) -> dict[str, Any]:
    """The scaling that gives the file's factors."""
    wanted = np.asarray(file.tensors[ROPE_FACTORS].data, np.float32).reshape(-1)
    for context in _CONTEXTS:
        scaling = {
            "rope_type": "llama3",
            "factor": float(wanted.max()),
            **_LLAMA3,
            "original_max_position_embeddings": context,
        }
        size = Heads.of(config).size
        found = llama3_factors(scaling, float(config["rope_theta"]), size)
        if found.shape == wanted.shape and np.allclose(found, wanted, 1e-3):
            return scaling
    raise ModelError(
        f"{file.path}: its positions are scaled in a way that mlx-lm doesn't know; use the model's "
        "Hugging Face original."
    )


def _check(file: GgufFile, config: Mapping[str, Any]) -> None:
    """Refuse what the two compute otherwise, as an export does."""
    try:
        family_of(config)
    except ModelError as error:
        reason = str(error).partition(";")[0].partition(". ")[0]
        raise ModelError(f"{file.path}: {reason}; use its Hugging Face original.") from None

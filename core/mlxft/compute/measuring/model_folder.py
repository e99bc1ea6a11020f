"""A small model of random weights as a folder, with a tokenizer of bytes: no download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mlxft.compute.arrays import named_arrays
from mlxft.compute.measuring.random_models import random_dtype
from mlxft.compute.measuring.random_weights import random_model

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_SPECIAL: Final = ("<|im_start|>", "<|im_end|>")


def write(folder: Path, config: dict[str, Any]) -> None:
    """Write a folder that runs can name as their model; `config` lacks what is the tokenizer's.

    A vocabulary that is larger than the tokenizer's is kept. Weights have the type of other
    measured models.
    """
    folder.mkdir(parents=True)
    tokenizer = _tokenizer()
    whole = {
        **config,
        "vocab_size": max(tokenizer.get_vocab_size(), int(config.get("vocab_size", 0))),
        "bos_token_id": tokenizer.token_to_id("<|im_start|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
    }
    arrays = named_arrays(random_model(whole, random_dtype()).parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(whole))
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": whole["max_position_embeddings"],
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described))


def _tokenizer() -> Tokenizer:
    """One token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer

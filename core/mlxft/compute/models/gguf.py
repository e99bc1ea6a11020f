"""Imports a llama-architecture GGUF file as an MLX model folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from gguf import GGUFReader, ReaderField, ReaderTensor
from gguf.quants import dequantize
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from mlxft.errors import ModelError, StorageError
from mlxft.runs.events import ProgressMade
from mlxft.storage.atomic_files import sync_folder

_CONTROL_TOKEN, _DEFINED_TOKEN = 3, 4
"""GGUF's token types for special tokens, and for those that are looked for in a text."""

_TEXTS = (
    "The quick brown fox: 1,234.50 + 7e-3 = 'x'?\n\tif (a != b) { return; }",
    "Größe, façade, crème brûlée; Быстрая лиса; Καλημέρα κόσμε",
    "今天天气很好。 こんにちは世界 안녕하세요 नमस्ते مرحبا שלום ไทย \U0001f642",
)
"""What a tokenizer must give back as it was."""

_BLOCK_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OTHER_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _File:
    """A GGUF file's tensors by name, and its metadata.

    MLX's own reader isn't used: it reads Q4_K with the scales of other weights, skips types that it
    doesn't know without an error, and refuses whole files for others.
    """

    path: Path
    tensors: Mapping[str, ReaderTensor]
    metadata: Mapping[str, ReaderField]

    def get(self, key: str) -> Any:
        """A metadata value; None if absent."""
        field = self.metadata.get(key)
        return None if field is None else field.contents()

    def need(self, key: str) -> Any:
        """A metadata value. Raises `ModelError` if absent."""
        value = self.get(key)
        if value is None:
            raise ModelError(f"{self.path}: this GGUF file has no {key}; choose another file.")
        return value


def import_model(source: Path, target: Path, on_progress: Callable[[ProgressMade], object]) -> None:
    """Write `target` atomically as an MLX model folder in float32.

    Raises `ModelError` for a file that can't be imported, `StorageError` for a full disk.
    """
    stages = ("reading", "weights", "tokenizer", "storing")

    def report(done: int) -> None:
        note = f"{target.name}: {stages[done]}" if done < len(stages) else target.name
        on_progress(ProgressMade(stage="importing", done=done, total=len(stages), note=note))

    report(0)
    file = _read(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".importing-", dir=target.parent))
        try:
            report(1)
            _write_weights(file, temporary)
            report(2)
            _write_tokenizer(file, temporary)
            report(3)
            _move_into_place(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{target}: the model can't be stored ({reason}); free disk space."
        ) from error
    report(4)


def _read(source: Path) -> _File:
    try:
        reader = GGUFReader(source)
    except (ValueError, IndexError, KeyError, OSError, OverflowError) as error:
        raise ModelError(f"{source}: this is not a whole GGUF file; copy it again.") from error
    file = _File(source, {each.name: each for each in reader.tensors}, reader.fields)
    architecture = file.need("general.architecture")
    if architecture != "llama":
        raise ModelError(
            f"{source}: a {architecture} model can't be imported from GGUF, only a llama; "
            "use its Hugging Face original."
        )
    scaled = file.get("llama.rope.scaling.type") not in (None, "none")
    if scaled or "rope_freqs.weight" in file.tensors:
        raise ModelError(
            f"{source}: a model with scaled positions can't be imported from GGUF; "
            "use its Hugging Face original."
        )
    return file


def _write_weights(file: _File, folder: Path) -> None:
    weights = dict(_renamed(file))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    config = json.dumps(_config(file, tied="lm_head.weight" not in weights), indent=2)
    (folder / "config.json").write_text(config, encoding="utf-8")


def _renamed(file: _File) -> Iterator[tuple[str, mx.array]]:
    """The weights by Hugging Face's names, with the rows of q and k in its order."""
    heads = {
        "attn_q": int(file.need("llama.attention.head_count")),
        "attn_k": _kv_heads(file),
    }
    for name in file.tensors:
        stem, _, kind = name.rpartition(".")
        if kind == "weight" and stem in _OTHER_NAMES:
            weight = _dequantized(file, name)
            yield f"{_OTHER_NAMES[stem]}.weight", weight
            continue
        _, layer, part = (*stem.split(".", 2), "", "")[:3]
        if kind != "weight" or part not in _BLOCK_NAMES:
            raise ModelError(
                f"{file.path}: the tensor {name} is unknown in a llama; use the model's Hugging "
                "Face original."
            )
        weight = _dequantized(file, name)
        if part in heads:
            weight = _unpermuted(weight, heads[part])
        yield f"model.layers.{layer}.{_BLOCK_NAMES[part]}.weight", weight


def _dequantized(file: _File, name: str) -> mx.array:
    """A weight in float32."""
    tensor = file.tensors[name]
    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
        raise ModelError(
            f"{file.path}: {name} has the type {tensor.tensor_type.name}, which can't be read; use "
            "a Q8_0 or F16 file of the model, or its Hugging Face original."
        ) from None
    shape = [int(each) for each in reversed(tensor.shape)]
    return mx.array(np.ascontiguousarray(values, np.float32)).reshape(shape)


def _unpermuted(rows: mx.array, heads: int) -> mx.array:
    """Rows in Hugging Face's order; llama.cpp interleaves the two halves of each head."""
    shape = rows.shape
    halves = rows.reshape(heads, shape[0] // heads // 2, 2, -1)
    return halves.swapaxes(1, 2).reshape(shape)


def _kv_heads(file: _File) -> int:
    return int(file.get("llama.attention.head_count_kv") or file.need("llama.attention.head_count"))


def _config(file: _File, tied: bool) -> dict[str, Any]:
    width = int(file.need("llama.embedding_length"))
    heads = int(file.need("llama.attention.head_count"))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": int(file.need("llama.feed_forward_length")),
        "num_hidden_layers": int(file.need("llama.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": _kv_heads(file),
        "head_dim": int(file.get("llama.attention.key_length") or width // heads),
        "rms_norm_eps": float(file.need("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(file.get("llama.rope.freq_base") or 10000.0),
        "max_position_embeddings": int(file.need("llama.context_length")),
        "vocab_size": len(file.need("tokenizer.ggml.tokens")),
        "tie_word_embeddings": tied,
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.need("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "torch_dtype": "float32",
    }


def _write_tokenizer(file: _File, folder: Path) -> None:
    tokens: list[str] = file.need("tokenizer.ggml.tokens")
    _tokenizer(file, tokens).save(str(folder / "tokenizer.json"))

    def token(role: str) -> str | None:
        number = file.get(f"tokenizer.ggml.{role}_token_id")
        return None if number is None else tokens[int(number)]

    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(file.need("llama.context_length")),
        "chat_template": file.get("tokenizer.chat_template"),
    }
    given = {key: value for key, value in settings.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(given, indent=2), encoding="utf-8")


def _tokenizer(file: _File, tokens: list[str]) -> Tokenizer:
    """The byte-level BPE tokenizer that the metadata describes."""
    kind = file.need("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ModelError(
            f"{file.path}: a {kind} tokenizer can't be imported, only gpt2; use the model's "
            "Hugging Face original."
        )
    merges = [tuple(merge.split(" ")) for merge in file.need("tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # llama.cpp takes words that are tokens whole in this kind of tokenizer.
    whole_words = file.get("tokenizer.ggml.pre") == "llama-bpe"
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=whole_words))
    tokenizer.pre_tokenizer = _pre_tokenizer(file)
    tokenizer.decoder = decoders.ByteLevel()
    named = list(zip(tokens, file.need("tokenizer.ggml.token_type"), strict=True))
    for kind, is_special in ((_CONTROL_TOKEN, True), (_DEFINED_TOKEN, False)):
        added = [
            AddedToken(token, special=is_special, normalized=False)
            for token, own in named
            if own == kind
        ]
        (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)(added)
    _check_round_trip(file, tokenizer)
    return tokenizer


def _check_round_trip(file: _File, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that doesn't give back what it split."""
    for text in _TEXTS:
        again = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
        if again != text:
            raise ModelError(
                f"{file.path}: its tokenizer makes {again!r} of {text!r}; use the model's Hugging "
                "Face original."
            )


def _pre_tokenizer(file: _File) -> Any:
    """The pre-tokenizer by llama.cpp's name for it."""
    name = file.get("tokenizer.ggml.pre") or "default"
    match name:
        case "smollm":
            return pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            )
        case "llama-bpe":
            return pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), "isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        case "default" | "gpt-2":
            return pre_tokenizers.ByteLevel(add_prefix_space=False)
    raise ModelError(
        f"{file.path}: the pre-tokenizer {name} can't be imported; use the model's Hugging Face "
        "original."
    )


def _move_into_place(temporary: Path, target: Path) -> None:
    """Rename the folder to its name; if another process was faster, its folder is equal."""
    for path in temporary.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(temporary)
    temporary.chmod(0o755)
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    sync_folder(target.parent)

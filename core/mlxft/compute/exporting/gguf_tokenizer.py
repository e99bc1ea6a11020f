"""A byte-level BPE tokenizer as GGUF metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gguf import GGUFWriter, TokenType

from mlxft.compute.tokenization import Tokenizer
from mlxft.errors import ModelError

_CONTRACTIONS: Final = "(?i:'s|"
"""How the patterns of Llama 3 and Qwen 2 begin."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens by id with their types, merges, and llama.cpp's name of how text is split."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    splitting: str


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """A model folder's tokenizer, filled up to the rows of its embedding. Raises `ModelError`."""
    file = folder / "tokenizer.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        model = found["model"]
        vocabulary: dict[str, int] = model["vocab"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _refused(file, "has no vocabulary that can be read") from None
    if model.get("type") != "BPE" or model.get("byte_fallback") or not _is_byte_level(found):
        raise _refused(file, "is no byte-level BPE tokenizer, the only kind that is written yet")
    tokens = [f"[UNUSED{index}]" for index in range(size)]
    types = [int(TokenType.UNUSED)] * size
    named = [(text, index, TokenType.NORMAL) for text, index in vocabulary.items()]
    for each in found.get("added_tokens", ()):
        kind = TokenType.CONTROL if each["special"] else TokenType.USER_DEFINED
        named.append((each["content"], each["id"], kind))
    for text, index, kind in named:
        # The model has no embedding for those beyond.
        if index < size:
            tokens[index], types[index] = text, int(kind)
    return Vocabulary(
        tokens=tuple(tokens),
        types=tuple(types),
        merges=tuple(each if isinstance(each, str) else " ".join(each) for each in model["merges"]),
        splitting=_splitting(file, found.get("pre_tokenizer") or {}),
    )


def add_tokenizer(writer: GGUFWriter, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    """Write vocabulary, special tokens and chat template."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    ends = sorted(tokenizer.eos_token_ids)
    first = tokenizer.eos_token_id if tokenizer.eos_token_id in ends else ends[0]
    writer.add_eos_token_id(first)
    if others := [each for each in ends if each != first]:
        writer.add_eot_token_id(others[0])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    begins = tokenizer.encode("a", add_special_tokens=True)[:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(bool(begins))
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _is_byte_level(found: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "ByteLevel" for each in _steps(found.get("pre_tokenizer") or {}))


def _steps(pre_tokenizer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if pre_tokenizer.get("type") == "Sequence":
        return list(pre_tokenizer["pretokenizers"])
    return [pre_tokenizer]


def _splitting(file: Path, pre_tokenizer: Mapping[str, Any]) -> str:
    """The name under which llama.cpp splits text alike. Raises `ModelError` if it has none."""
    steps = _steps(pre_tokenizer)
    patterns = [each["pattern"].get("Regex", "") for each in steps if each.get("type") == "Split"]
    if len(patterns) == 1 and patterns[0].startswith(_CONTRACTIONS):
        if r"|\p{N}{1,3}|" in patterns[0]:
            return "llama-bpe"
        if r"|\p{N}|" in patterns[0]:
            return "qwen2"
    kinds = [each.get("type") for each in steps]
    by_byte_level = steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and by_byte_level:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and by_byte_level:
        return "smollm"
    raise _refused(file, "splits text in a way that llama.cpp has no known name for")


def _refused(file: Path, why: str) -> ModelError:
    return ModelError(f"{file}: this tokenizer {why}; export with --to mlx or --to peft instead.")

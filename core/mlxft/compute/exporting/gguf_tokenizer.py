"""A tokenizer as GGUF metadata: byte-level BPE, or SentencePiece's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gguf import GGUFWriter, TokenType

from mlxft.compute.exporting.gguf_pieces import UnwrittenError, is_sentencepiece, read_pieces
from mlxft.compute.tokenization import Tokenizer
from mlxft.errors import ModelError

_CONTRACTIONS: Final = "(?i:'s|"
"""How the patterns of Llama 3 and Qwen 2 begin."""

_TEKKEN: Final = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}"
"""How the pattern of Mistral's newer models begins."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens by id with their types, and either merges or scores."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    splitting: str
    """llama.cpp's name of how text is split."""
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    """Of SentencePiece's tokens."""
    has_prefix: bool = False
    """Whether SentencePiece puts a space before a text."""


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """A model folder's tokenizer, filled up to the rows of its embedding. Raises `ModelError`."""
    file = folder / "tokenizer.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        model = found["model"]
        vocabulary: dict[str, int] = model["vocab"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _refused(file, "has no vocabulary that can be read") from None
    if not is_sentencepiece(model) and (model.get("type") != "BPE" or not _is_byte_level(found)):
        raise _refused(file, "is neither byte-level BPE nor SentencePiece's, which are written")
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
    if is_sentencepiece(model):
        return _sentencepiece(file, found, tokens, types)
    return Vocabulary(
        tokens=tuple(tokens),
        types=tuple(types),
        merges=tuple(each if isinstance(each, str) else " ".join(each) for each in model["merges"]),
        splitting=_splitting(file, found),
    )


def _sentencepiece(
    file: Path, found: Mapping[str, Any], tokens: list[str], types: list[int]
) -> Vocabulary:
    try:
        pieces = read_pieces(found, tokens, types)
    except UnwrittenError as error:
        raise _refused(file, f"{error}, other than llama.cpp") from None
    return Vocabulary(
        tokens=pieces.tokens,
        types=pieces.types,
        splitting="default",
        scores=pieces.scores,
        has_prefix=pieces.has_prefix,
    )


def add_tokenizer(writer: GGUFWriter, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
    """Write vocabulary, special tokens and chat template."""
    writer.add_tokenizer_model("llama" if vocabulary.scores else "gpt2")
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.has_prefix)
        if tokenizer.unk_token_id is not None:
            writer.add_unk_token_id(tokenizer.unk_token_id)
    else:
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


def _splitting(file: Path, found: Mapping[str, Any]) -> str:
    """The name under which llama.cpp splits text alike. Raises `ModelError` if it has none."""
    steps = _steps(found.get("pre_tokenizer") or {})
    whole_words = bool(found["model"].get("ignore_merges"))
    patterns = [each["pattern"].get("Regex", "") for each in steps if each.get("type") == "Split"]
    if len(patterns) == 1 and patterns[0].startswith(_CONTRACTIONS):
        if r"|\p{N}{1,3}|" in patterns[0]:
            return "llama-bpe" if whole_words else "smaug-bpe"
        if r"|\p{N}|" in patterns[0] and not whole_words:
            return "qwen2"
    if len(patterns) == 1 and patterns[0].startswith(_TEKKEN) and whole_words:
        return "tekken"
    if whole_words:
        raise _refused(file, "takes words that are tokens whole, which llama.cpp doesn't here")
    kinds = [each.get("type") for each in steps]
    by_byte_level = steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and by_byte_level:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and by_byte_level:
        return "smollm"
    raise _refused(file, "splits text in a way that llama.cpp has no known name for")


def _refused(file: Path, why: str) -> ModelError:
    return ModelError(f"{file}: this tokenizer {why}; export with --to mlx or --to peft instead.")

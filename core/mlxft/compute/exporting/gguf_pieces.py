"""A SentencePiece tokenizer as GGUF metadata: pieces with scores instead of merges."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gguf import TokenType

SPACE: Final = "\u2581"
"""SentencePiece's sign for a space."""

_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")


class UnwrittenError(Exception):
    """The tokenizer does what llama.cpp's can't; the message ends a sentence about it."""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What llama.cpp needs beside the tokens' texts."""

    scores: tuple[float, ...]
    types: tuple[int, ...]
    tokens: tuple[str, ...]
    has_prefix: bool
    """Whether a space is put before a text."""


def is_sentencepiece(model: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json's model is SentencePiece's BPE."""
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def read_pieces(found: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> Pieces:
    """The pieces of a tokenizer.json, whose tokens and types are given. Raises `UnwrittenError`."""
    model = found["model"]
    has_prefix = _has_prefix(found)
    added = {each["content"] for each in found.get("added_tokens", ())}
    order = _order(model, added)
    texts, kinds = list(tokens), list(types)
    unknown = model.get("unk_token")
    for index, text in enumerate(tokens):
        if text == unknown:
            kinds[index] = int(TokenType.UNKNOWN)
        elif _BYTE.fullmatch(text):
            kinds[index] = int(TokenType.BYTE)
        elif kinds[index] == TokenType.USER_DEFINED:
            # llama.cpp looks for these in the text before it replaces spaces.
            texts[index] = text.replace(SPACE, " ")
    last = -float(len(order) + 1)
    scores = [
        -float(order.get(text, last))
        if text in order
        else last
        if kind == TokenType.NORMAL
        else 0.0
        for text, kind in zip(tokens, kinds, strict=True)
    ]
    return Pieces(
        scores=tuple(scores), types=tuple(kinds), tokens=tuple(texts), has_prefix=has_prefix
    )


def _order(model: Mapping[str, Any], added: Container[str]) -> dict[str, int]:
    """Merged pieces in the order in which they are merged, which scores must give again."""
    vocabulary = model["vocab"]
    merges = [
        tuple(each.split(" ", 1)) if isinstance(each, str) else tuple(each)
        for each in model["merges"]
    ]
    order: dict[str, int] = {}
    latest = ""
    for left, right in merges:
        piece = left + right
        if piece != latest and piece in order:
            raise UnwrittenError("merges pieces in an order that scores can't give")
        latest = piece
        order.setdefault(piece, len(order))
    # llama.cpp joins whatever makes a piece, so each way to make one must be a merge.
    known = set(merges)
    for piece in vocabulary:
        if piece in added or _BYTE.fullmatch(piece):
            continue
        for at in range(1, len(piece)):
            halves = piece[:at], piece[at:]
            if halves not in known and halves[0] in vocabulary and halves[1] in vocabulary:
                raise UnwrittenError(f"never merges {halves[0]} and {halves[1]}")
    return order


def _has_prefix(found: Mapping[str, Any]) -> bool:
    """Whether a space is put before a text; refuses other changes of it."""
    prefix = replaces = False
    for step in _steps(found.get("normalizer"), "normalizers"):
        match step:
            case {"type": "Prepend", "prepend": "\u2581"}:
                prefix = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
                replaces = True
            case _:
                raise UnwrittenError(f"changes text before it is split ({step.get('type')})")
    for step in _steps(found.get("pre_tokenizer"), "pretokenizers"):
        match step:
            case {"type": "Metaspace", "replacement": "\u2581"}:
                replaces = True
                prefix = prefix or step.get("prepend_scheme", "always") != "never"
                if step.get("split", True) and _crosses_words(found["model"]["vocab"]):
                    raise UnwrittenError("splits words that its pieces join")
            case {"type": "Split", "pattern": {"String": " "}} if replaces:
                pass  # There is no space left to split at.
            case _:
                raise UnwrittenError(f"splits text before it is merged ({step.get('type')})")
    if not replaces:
        raise UnwrittenError("keeps spaces as they are")
    return prefix


def _steps(found: Mapping[str, Any] | None, key: str) -> Iterator[Mapping[str, Any]]:
    if found is None:
        return
    if found.get("type") == "Sequence":
        yield from found[key]
    else:
        yield found


def _crosses_words(vocabulary: Mapping[str, int]) -> bool:
    return any(SPACE in text[1:].lstrip(SPACE) for text in vocabulary)

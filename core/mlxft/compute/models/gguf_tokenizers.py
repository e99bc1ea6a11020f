"""The tokenizer that a GGUF file's metadata describes, checked by a round trip."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gguf import TokenType
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from mlxft.compute.models.gguf_file import GgufFile
from mlxft.errors import ModelError

SPACE: Final = "\u2581"
"""SentencePiece's sign for a space."""

_TEXTS: Final = (
    "The quick brown fox: 1,234.50 + 7e-3 = 'x'?\n\tif (a != b) { return; }",
    "Größe, façade, crème brûlée; Быстрая лиса; Καλημέρα κόσμε",
    "今天天气很好。 こんにちは世界 안녕하세요 नमस्ते مرحبا שלום ไทย \U0001f642",
)
"""What a tokenizer must give back as it was."""

_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START: Final = r"[^\r\n\p{L}\p{N}]?"

_LLAMA3: Final = _LETTERS + r"\p{N}{1,3}|" + _REST
_QWEN2: Final = _LETTERS + r"\p{N}|" + _REST
_TEKKEN: Final = (
    rf"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*|\p{{N}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Final = {
    "llama-bpe": _LLAMA3,
    "smaug-bpe": _LLAMA3,
    "dbrx": _LLAMA3,
    "qwen2": _QWEN2,
    "tekken": _TEKKEN,
}
"""The patterns of llama.cpp's pre-tokenizers."""

_WHOLE_WORDS: Final = ("llama-bpe", "tekken")
"""Pre-tokenizers with which words that are tokens are taken whole."""

_DIGITS: Final = ("smollm", "refact", "command-r", "starcoder")
"""Those that split digits from each other, and then as GPT-2's."""

_GPT2: Final = ("default", "gpt-2")


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write tokenizer.json and its settings. Raises `ModelError` for one that isn't known."""
    tokens: list[str] = file.need("tokenizer.ggml.tokens")
    tokenizer = _tokenizer(file, tokens)
    _check_round_trip(file, tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {
        role: _token(file, tokens, name)
        for role, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{role}_token": token for role, token in named.items()},
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(file.need_own("context_length")),
        "chat_template": file.get("tokenizer.chat_template"),
    }
    given = {key: value for key, value in settings.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(given, indent=2), encoding="utf-8")


def _token(file: GgufFile, tokens: Sequence[str], role: str) -> str | None:
    number = file.get(f"tokenizer.ggml.{role}_token_id")
    return None if number is None else _content(file, tokens[int(number)])


def _content(file: GgufFile, text: str) -> str:
    """A token as tokenizer.json has it; llama.cpp looks for those with spaces before it splits."""
    return text.replace(" ", SPACE) if file.get("tokenizer.ggml.model") == "llama" else text


def _tokenizer(file: GgufFile, tokens: Sequence[str]) -> Tokenizer:
    kind = file.need("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise ModelError(
            f"{file.path}: a {kind} tokenizer can't be imported, only gpt2 and llama; use the "
            "model's Hugging Face original."
        )
    kinds: list[int] = file.need("tokenizer.ggml.token_type")
    texts = [_content(file, each) for each in tokens]
    made = _byte_level(file, texts) if kind == "gpt2" else _sentencepiece(file, texts, kinds)
    for wanted, is_special in ((TokenType.CONTROL, True), (TokenType.USER_DEFINED, False)):
        added = [
            AddedToken(text, special=is_special, normalized=kind == "llama" and not is_special)
            for text, own in zip(texts, kinds, strict=True)
            if own == wanted
        ]
        (made.add_special_tokens if is_special else made.add_tokens)(added)
    begins = file.get("tokenizer.ggml.bos_token_id")
    if file.get("tokenizer.ggml.add_bos_token") and begins is not None:
        made.post_processor = processors.TemplateProcessing(
            single=f"{texts[begins]} $A",
            pair=f"{texts[begins]} $A $B",
            special_tokens=[(texts[begins], int(begins))],
        )
    return made


def _byte_level(file: GgufFile, texts: Sequence[str]) -> Tokenizer:
    name = file.get("tokenizer.ggml.pre") or "default"
    merges = [tuple(merge.split(" ")) for merge in file.need("tokenizer.ggml.merges")]
    vocabulary = {text: number for number, text in enumerate(texts)}
    made = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=name in _WHOLE_WORDS))
    if name == "qwen2":
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = _pre_tokenizer(file, name)
    made.decoder = decoders.ByteLevel()
    return made


def _pre_tokenizer(file: GgufFile, name: str) -> Any:
    """The pre-tokenizer by llama.cpp's name for it."""
    if name in _SPLITS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLITS[name]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name in _DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, plain])
    if name in _GPT2:
        return plain
    raise ModelError(
        f"{file.path}: the pre-tokenizer {name} can't be imported; use the model's Hugging Face "
        "original."
    )


def _sentencepiece(file: GgufFile, texts: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    """SentencePiece's BPE as merges, ordered by the scores of the pieces that they make."""
    vocabulary = {text: number for number, text in enumerate(texts)}
    named = zip(texts, kinds, strict=True)
    unknown = next((text for text, own in named if own == TokenType.UNKNOWN), None)
    made = Tokenizer(
        models.BPE(
            vocabulary,
            _merges(file, vocabulary, kinds),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = file.get("tokenizer.ggml.add_space_prefix")
    prefix = True if prefix is None else bool(prefix)
    replaced = normalizers.Replace(" ", SPACE)
    before = [normalizers.Prepend(SPACE)] if prefix else []
    made.normalizer = normalizers.Sequence([*before, replaced])
    made.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if prefix else []),
        ]
    )
    return made


def _merges(
    file: GgufFile, vocabulary: Mapping[str, int], kinds: Sequence[int]
) -> list[tuple[str, str]]:
    scores: list[float] = file.need("tokenizer.ggml.scores")
    mergeable = (TokenType.NORMAL, TokenType.USER_DEFINED)
    found = [
        (-scores[number], number, at, (piece[:at], piece[at:]))
        for piece, number in vocabulary.items()
        if kinds[number] in mergeable
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary
    ]
    return [pair for *_, pair in sorted(found)]


def _check_round_trip(file: GgufFile, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that doesn't give back what it split."""
    for text in _TEXTS:
        again = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
        if again != text:
            raise ModelError(
                f"{file.path}: its tokenizer makes {again!r} of {text!r}; use the model's Hugging "
                "Face original."
            )

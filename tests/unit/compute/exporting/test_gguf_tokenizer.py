"""SentencePiece tokenizers as GGUF metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from gguf import TokenType

from mlxft.compute.exporting.gguf_tokenizer import Vocabulary, read_vocabulary
from mlxft.compute.tokenization import load_tokenizer
from mlxft.errors import ModelError
from support.models import make_tiny_model
from support.sentencepiece_models import TEXTS, write_sentencepiece

SPACE = "\u2581"


def joined(found: Vocabulary, text: str) -> list[int]:
    """A text's tokens as llama.cpp finds them: the neighbours with the highest score first."""
    ids = {token: index for index, token in enumerate(found.tokens)}
    text = (" " if found.has_prefix else "") + text
    parts: list[str] = list(text.replace(" ", SPACE))
    while pairs := [
        (-found.scores[ids[left + right]], at)
        for at, (left, right) in enumerate(pairwise(parts))
        if left + right in ids and found.types[ids[left + right]] == TokenType.NORMAL
    ]:
        _, at = min(pairs)
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
    return [index for part in parts for index in _ids(ids, part)]


def _ids(ids: dict[str, int], part: str) -> Sequence[int]:
    if part in ids:
        return [ids[part]]
    return [ids[f"<0x{byte:02X}>"] for byte in part.encode()]


@pytest.mark.parametrize("prefix", [True, False])
def test_scores_give_the_tokens_that_merges_give(tmp_path: Path, prefix: bool) -> None:
    folder = write_sentencepiece(make_tiny_model(tmp_path / "model"), prefix=prefix)
    tokenizer, found = load_tokenizer(folder, False), read_vocabulary(folder, 400)
    assert found.has_prefix == prefix
    # Runs of spaces are tokens of their own in the second.
    texts = (each for each in (*TEXTS, "unseen: \u0be9 \U0001f642", " a b") if "  " not in each)
    for text in texts:
        assert joined(found, text) == tokenizer.encode(text, add_special_tokens=False)
    assert found.types[0] == TokenType.UNKNOWN
    assert found.types[1] == TokenType.CONTROL
    assert found.types[found.tokens.index("<0x0A>")] == TokenType.BYTE
    if not prefix:  # llama.cpp looks for these before it replaces spaces.
        assert found.types[found.tokens.index("  ")] == TokenType.USER_DEFINED


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("normalizer", {"type": "NFKC"}, "changes text before it is split .NFKC"),
        ("pre_tokenizer", {"type": "Whitespace"}, "splits text before it is merged"),
        ("normalizer", None, "keeps spaces as they are"),
    ],
)
def test_what_llama_cpp_would_not_do_is_refused(
    tmp_path: Path, part: str, value: object, reason: str
) -> None:
    folder = write_sentencepiece(make_tiny_model(tmp_path / "model"))
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), part: value}))
    with pytest.raises(ModelError, match=reason):
        read_vocabulary(folder, 400)


def test_a_pair_that_is_never_merged_is_refused(tmp_path: Path) -> None:
    folder = write_sentencepiece(make_tiny_model(tmp_path / "model"))
    file = folder / "tokenizer.json"
    found = json.loads(file.read_text())
    left, right = next(pair for pair in found["model"]["merges"] if len("".join(pair)) == 3)
    found["model"]["merges"].remove([left, right])
    file.write_text(json.dumps(found))
    with pytest.raises(ModelError, match=f"never merges {left} and {right}"):
        read_vocabulary(folder, 400)

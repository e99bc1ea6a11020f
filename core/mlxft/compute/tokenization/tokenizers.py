"""The tokenizer of a model folder, with all its end tokens."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from mlx_lm.utils import load_config
from mlx_lm.utils import load_tokenizer as load_wrapped_tokenizer

from mlxft.errors import DataError, ModelError

Tokenizer: TypeAlias = Any
"""mlx_lm's TokenizerWrapper."""


def load_tokenizer(path: Path, trust_remote_code: bool) -> Tokenizer:
    """The tokenizer of a model folder, with all end tokens in its config. Raises `ModelError`."""
    try:
        return load_wrapped_tokenizer(
            path,
            {"trust_remote_code": trust_remote_code},
            eos_token_ids=load_config(path).get("eos_token_id"),
        )
    except Exception as error:  # transformers raises anything, depending on the files
        if _refuses_config(path, trust_remote_code, error):
            raise ModelError(
                f"{path / 'config.json'}: transformers rejects it ({first_line(error)}); "
                "fix it or choose another model."
            ) from error
        raise ModelError(
            f"{path}: the tokenizer can't be loaded ({first_line(error)}); "
            "download the model again or choose another."
        ) from error


def _refuses_config(path: Path, trust_remote_code: bool, error: Exception) -> bool:
    """Whether config.json caused the error: loaded alone, it causes the same one."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as alone:
        return (type(alone), str(alone)) == (type(error), str(error))
    return False


@lru_cache(maxsize=1)
def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids of tokens that stand for no text, such as those that end a turn."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(
        (*tokenizer.all_special_ids, *(token for token, each in added if each.special))
    )


def check_vocabulary(tokens: Iterable[int], vocabulary: int | None, place: str) -> None:
    """Raise `DataError` for a token that the model has no embedding for: a GPU reads garbage."""
    if vocabulary is not None and (highest := max(tokens, default=0)) >= vocabulary:
        raise DataError(
            f"{place}: the record has token {highest}, but the model's vocab_size is {vocabulary}; "
            "choose the model that the tokenizer belongs to, or remove what makes that token."
        )


def first_line(error: Exception) -> str:
    """An exception's message, short enough for a sentence."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    # A line that ends in a colon says only where; the next one says what.
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said[:160].rstrip(".")

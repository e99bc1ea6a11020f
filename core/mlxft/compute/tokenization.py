"""Tokenize records; the trainer and the token view share this code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mlx_lm.utils import load_config
from mlx_lm.utils import load_tokenizer as load_wrapped_tokenizer

from mlxft.data import formats, truncation
from mlxft.data.formats import Fields
from mlxft.data.record_checks import mask_problem, problems
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.data.truncation import Piece
from mlxft.errors import DataError, ModelError
from mlxft.recipe import Overlong, Recipe

Tokenizer: TypeAlias = Any
"""mlx_lm's TokenizerWrapper."""


@dataclass(frozen=True)
class TokenizedRecord:
    """A record's tokens before truncation, and the index of the first trained one.

    All tokens from there on are trained. The very first token is never a target, since nothing
    predicts it.
    """

    tokens: tuple[int, ...]
    first_trained: int
    prompt_is_prefix: bool = True
    """Whether the record begins with its rendered prompt; if not, training starts at the first
    difference."""
    end_added: bool = False
    """Whether the chat template wrote no end token, so that it was added."""

    closing: int = 1
    """How many of the last tokens are the end token and whitespace after it."""

    def pieces(self, max_seq_length: int, choice: Overlong) -> tuple[Piece, ...]:
        """The sequences of it that are trained."""
        length = len(self.tokens)
        return truncation.pieces(length, self.first_trained, max_seq_length, choice, self.closing)


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


def tokenize(
    tokenizer: Tokenizer, fields: Fields, mask_prompt: bool, place: str = "This record"
) -> TokenizedRecord:
    """Tokenize a record without faults, like mlx_lm's datasets.

    With `mask_prompt` only the last message is trained. Unlike mlx_lm, adds the model's end token
    if the chat template doesn't end the answer: without it a model never learns to stop. Raises
    `DataError` beginning with `place` if the chat template rejects the record.
    """
    messages = formats.conversation(fields)
    if messages is None:
        return TokenizedRecord(_with_end(tokenizer, tokenizer.encode(fields["text"])), 1)
    tools = fields.get("tools")
    try:
        tokens = render(tokenizer, messages, tools)
        masked = mask_prompt and len(messages) > 1
        prompt = render(tokenizer, messages[:-1], tools, answering=True) if masked else ()
    except Exception as error:  # a chat template may raise anything
        raise DataError(_refusal(tokenizer, messages, place, error)) from error
    first = _common_prefix(tokens, prompt)
    closing = _closing(tokenizer, tokens)
    whole = tokens if closing else (*tokens, tokenizer.eos_token_id)
    return TokenizedRecord(
        whole, max(1, first), first == len(prompt), len(whole) > len(tokens), closing or 1
    )


def _refusal(tokenizer: Tokenizer, messages: Sequence[Any], place: str, error: Exception) -> str:
    """Why a chat template rejects a conversation, and what helps."""
    remedy = "change the record or choose another model"
    if messages[0]["role"] == "system":
        with contextlib.suppress(Exception):
            render(tokenizer, messages[1:])
            remedy = "move the system message into the user's message"
    return f"{place}: the model's chat template rejects it ({first_line(error)}); {remedy}."


def _closing(tokenizer: Tokenizer, tokens: Sequence[int]) -> int:
    """How many tokens at the end are an end token and whitespace after it; 0 without one.

    A model without an end token needs none.
    """
    if tokenizer.eos_token_id is None:
        return 1
    for count, token in enumerate(reversed(tokens), 1):
        if token in tokenizer.eos_token_ids:
            return count
        if tokenizer.decode([token]).strip():
            return 0
    return 0


def render(
    tokenizer: Tokenizer, messages: Sequence[Any], tools: Any = None, *, answering: bool = False
) -> tuple[int, ...]:
    """A conversation as tokens; `answering` adds the generation prompt.

    Without a chat template the contents are joined as plain text, ended unless `answering`.
    """
    if not tokenizer.has_chat_template:
        text = "".join(message["content"] or "" for message in messages)
        tokens = tokenizer.encode(text)
        return tuple(tokens) if answering else _with_end(tokenizer, tokens)
    return tuple(
        tokenizer.apply_chat_template(
            list(messages), tools=tools or None, add_generation_prompt=answering
        )
    )


def token_view(tokenizer: Tokenizer, record: dict[str, Any], recipe: Recipe) -> TokenView:
    """A record as the trainer sees it. Raises `DataError` if it can't be trained."""
    for problem in problems(record):
        raise DataError(f"This record: {problem.problem}; {problem.remedy}.")
    unmaskable = mask_problem(record) if recipe.mask_prompt else None
    if unmaskable is not None:
        raise DataError(f"This record: {unmaskable.problem}; {unmaskable.remedy}.")
    tokenized = tokenize(tokenizer, record, recipe.mask_prompt)
    special = _special_ids(tokenizer)
    texts = _texts(tokenizer, tokenized.tokens, special)
    rows: dict[int, int] = {}
    targets: set[int] = set()
    for row, piece in enumerate(tokenized.pieces(recipe.max_seq_length, recipe.overlong)):
        positions = piece.positions(len(tokenized.tokens))
        rows |= {position: row for position in positions if position not in rows}
        targets.update(positions[piece.first_trained :])
    pieces = (
        TokenPiece(
            id=token,
            text=text,
            trained=index in targets,
            kept=index in rows,
            special=token in special,
            row=rows.get(index, 0),
        )
        for index, (token, text) in enumerate(zip(tokenized.tokens, texts, strict=True))
    )
    notes = _notes(record, tokenized, recipe.mask_prompt)
    return TokenView(tuple(pieces), _templated(tokenizer, record), tuple(notes))


def _notes(fields: Fields, tokenized: TokenizedRecord, mask_prompt: bool) -> Iterator[str]:
    """What to know about how this record is trained."""
    answers = [each for each in formats.conversation(fields) or () if each["role"] == "assistant"]
    if mask_prompt and len(answers) > 1:
        yield f"mask_prompt trains only the last of {len(answers)} answers."
    if not tokenized.prompt_is_prefix:
        yield (
            "The rendered record doesn't begin with its prompt; everything after the first "
            "difference is trained."
        )
    if tokenized.end_added:
        yield "The chat template doesn't end the answer, so the model's end token was added."


def first_line(error: Exception) -> str:
    """An exception's message, short enough for a sentence."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    # A line that ends in a colon says only where; the next one says what.
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said[:160].rstrip(".")


def _with_end(tokenizer: Tokenizer, tokens: list[int]) -> tuple[int, ...]:
    end = tokenizer.eos_token_id
    ended = end is None or tokens[-1:] == [end]
    return tuple(tokens) if ended else (*tokens, end)


def _common_prefix(tokens: Sequence[int], prompt: Sequence[int]) -> int:
    """The length of the common prefix of record and prompt.

    It may be shorter than the prompt: a template may open an answer with more than a finished one
    has (a thinking tag), and tokens may merge across the border.
    """
    pairs = zip(tokens, prompt, strict=False)
    return next(
        (index for index, (left, right) in enumerate(pairs) if left != right),
        min(len(tokens), len(prompt)),
    )


def _templated(tokenizer: Tokenizer, fields: Fields) -> str:
    messages = formats.conversation(fields)
    if messages is None:
        return str(fields["text"])
    if not tokenizer.has_chat_template:
        return "".join(message["content"] or "" for message in messages)
    return str(
        tokenizer.apply_chat_template(messages, tools=fields.get("tools") or None, tokenize=False)
    )


def _special_ids(tokenizer: Tokenizer) -> set[int]:
    added = tokenizer.added_tokens_decoder.items()
    return set(tokenizer.all_special_ids) | {token for token, each in added if each.special}


def _texts(tokenizer: Tokenizer, tokens: Sequence[int], special: set[int]) -> list[str]:
    """The text of each token; a character of several tokens is that of the last one."""
    texts: list[str] = []
    pending: list[int] = []
    for token, name in zip(tokens, tokenizer.convert_ids_to_tokens(list(tokens)), strict=True):
        if token in special:
            texts.append(name)
            pending = []
            continue
        pending.append(token)
        text = tokenizer.decode(pending, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and len(pending) < 4:
            texts.append("")
            continue
        # SentencePiece tokenizers drop a leading space when decoding.
        dropped = len(pending) == 1 and name.startswith("▁") and not text.startswith(" ")
        texts.append(" " + text if dropped else text)
        pending = []
    return texts

"""Records as tokens, in the trainer's own order: the trainer and the preview share this code."""

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
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.data.truncation import Piece
from mlxft.data.validation import mask_problem, problems
from mlxft.errors import DataError, ModelError
from mlxft.recipe import Overlong, Recipe

Tokenizer: TypeAlias = Any
"""mlx_lm's TokenizerWrapper."""


@dataclass(frozen=True)
class TokenizedRecord:
    """A record's tokens before any cut, and the index of the first trained one.

    Everything from there on is trained. The very first token is never a target, since nothing
    predicts it.
    """

    tokens: tuple[int, ...]
    first_trained: int
    prompt_is_prefix: bool = True
    """Whether the open prompt really begins the record; where not, their first difference does."""
    end_added: bool = False
    """Whether the chat template left the answer without an end token, so that it was added."""

    closing: int = 1
    """How many of the last tokens are its end: the end-of-text token and any blanks after it."""

    def pieces(self, max_seq_length: int, choice: Overlong) -> tuple[Piece, ...]:
        """The sequences that are trained of it."""
        length = len(self.tokens)
        return truncation.pieces(length, self.first_trained, max_seq_length, choice, self.closing)


def load_tokenizer(path: Path, trust_remote_code: bool) -> Tokenizer:
    """The tokenizer of a model folder, with every end token its configuration names.

    Raises `ModelError`.
    """
    try:
        return load_wrapped_tokenizer(
            path,
            {"trust_remote_code": trust_remote_code},
            eos_token_ids=load_config(path).get("eos_token_id"),
        )
    except Exception as error:  # transformers raises whatever the folder's files provoke
        if _refuses_config(path, trust_remote_code, error):
            raise ModelError(
                f"{path / 'config.json'}: transformers refuses it ({first_line(error)}); "
                "correct it there or choose another model."
            ) from error
        raise ModelError(
            f"{path}: the tokenizer can't be loaded ({first_line(error)}); "
            "download the model again or choose another."
        ) from error


def _refuses_config(path: Path, trust_remote_code: bool, error: Exception) -> bool:
    """Whether it was config.json that provoked an error: read alone, it provokes the same."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as alone:
        return (type(alone), str(alone)) == (type(error), str(error))
    return False


def tokenize(
    tokenizer: Tokenizer, fields: Fields, mask_prompt: bool, place: str = "This record"
) -> TokenizedRecord:
    """A faultless record as tokens, as mlx_lm's datasets make them.

    With `mask_prompt` only the last message is trained. Other than mlx_lm, an answer that the chat
    template doesn't end gets the model's end token: without it a model never learns to stop.
    Raises `DataError` beginning with `place` where the model's chat template refuses the record.
    """
    messages = formats.conversation(fields)
    if messages is None:
        return TokenizedRecord(_with_end(tokenizer, tokenizer.encode(fields["text"])), 1)
    tools = fields.get("tools")
    try:
        tokens = render(tokenizer, messages, tools)
        masked = mask_prompt and len(messages) > 1
        prompt = render(tokenizer, messages[:-1], tools, answering=True) if masked else ()
    except Exception as error:  # a chat template is a program of the model's author
        raise DataError(_refusal(tokenizer, messages, place, error)) from error
    first = _common_prefix(tokens, prompt)
    closing = _closing(tokenizer, tokens)
    whole = tokens if closing else (*tokens, tokenizer.eos_token_id)
    return TokenizedRecord(
        whole, max(1, first), first == len(prompt), len(whole) > len(tokens), closing or 1
    )


def _refusal(tokenizer: Tokenizer, messages: Sequence[Any], place: str, error: Exception) -> str:
    """Why a chat template refuses a conversation, and what would help."""
    remedy = "change the record or choose another model"
    if messages[0]["role"] == "system":
        with contextlib.suppress(Exception):
            render(tokenizer, messages[1:])
            remedy = "put the system message's text at the beginning of the user's message"
    return f"{place}: the model's chat template refuses it ({first_line(error)}); {remedy}."


def _closing(tokenizer: Tokenizer, tokens: Sequence[int]) -> int:
    """How many tokens at the end are an end token and blanks after it; 0 where there is none.

    A model that has no end token needs none.
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
    """A conversation as tokens; `answering` leaves it open for the assistant.

    A model without a chat template gets the contents as plain text, ended unless `answering`.
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
    """A record as the trainer sees it. Raises `DataError` for one that can't be trained."""
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
    """What to know of how this record is trained."""
    answers = [each for each in formats.conversation(fields) or () if each["role"] == "assistant"]
    if mask_prompt and len(answers) > 1:
        yield f"mask_prompt trains the last of {len(answers)} answers only."
    if not tokenized.prompt_is_prefix:
        yield (
            "The open prompt is not how the finished conversation begins; what follows their "
            "first difference is trained."
        )
    if tokenized.end_added:
        yield "The chat template doesn't end the answer, so the model's end token was added."


def first_line(error: Exception) -> str:
    """What an exception says, short enough for a sentence."""
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
    """How far the prompt really begins the record.

    A template may open an answer with more than it writes in a finished one (a thinking tag), and
    the prompt's last characters may merge with the answer's first.
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
    """What each token decodes to; a character in several tokens stands at its last one."""
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
        # A sentence-piece tokenizer drops a leading space when it decodes.
        dropped = len(pending) == 1 and name.startswith("▁") and not text.startswith(" ")
        texts.append(" " + text if dropped else text)
        pending = []
    return texts

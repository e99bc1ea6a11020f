"""Records as tokens, in the trainer's own order: the trainer and the preview share this code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mlx_lm.utils import load_config
from mlx_lm.utils import load_tokenizer as load_wrapped_tokenizer

from mlxft.data import formats
from mlxft.data.formats import Fields
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.data.validation import mask_problem, problems
from mlxft.errors import DataError, ModelError

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

    def kept(self, max_seq_length: int) -> int:
        """How many tokens are left after the cut."""
        return min(len(self.tokens), max_seq_length)

    def trained(self, max_seq_length: int) -> int:
        """How many of the tokens left are trained."""
        return max(0, self.kept(max_seq_length) - self.first_trained)


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
        raise ModelError(
            f"{path}: the tokenizer can't be loaded ({first_line(error)}); "
            "download the model again or choose another."
        ) from error


def tokenize(
    tokenizer: Tokenizer, fields: Fields, mask_prompt: bool, place: str = "This record"
) -> TokenizedRecord:
    """A faultless record as tokens, as mlx_lm's datasets make them.

    With `mask_prompt` only the last message is trained. Raises `DataError` beginning with `place`
    where the model's chat template refuses the record.
    """
    messages = formats.conversation(fields)
    if messages is None:
        return TokenizedRecord(_with_end(tokenizer, tokenizer.encode(fields["text"])), 1)
    try:
        tokens = render(tokenizer, messages, fields.get("tools"))
        if not mask_prompt or len(messages) < 2:
            return TokenizedRecord(tokens, 1)
        prompt = render(tokenizer, messages[:-1], fields.get("tools"), answering=True)
    except Exception as error:  # a chat template is a program of the model's author
        raise DataError(
            f"{place}: the model's chat template refuses it ({first_line(error)}); "
            "change the record or choose another model."
        ) from error
    return TokenizedRecord(tokens, max(1, _common_prefix(tokens, prompt)))


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


def token_view(
    tokenizer: Tokenizer, record: dict[str, Any], mask_prompt: bool, max_seq_length: int
) -> TokenView:
    """A record as the trainer sees it. Raises `DataError` for one that can't be trained."""
    for problem in problems(record):
        raise DataError(f"This record: {problem.problem}; {problem.remedy}.")
    unmaskable = mask_problem(record) if mask_prompt else None
    if unmaskable is not None:
        raise DataError(f"This record: {unmaskable.problem}; {unmaskable.remedy}.")
    tokenized = tokenize(tokenizer, record, mask_prompt)
    special = _special_ids(tokenizer)
    texts = _texts(tokenizer, tokenized.tokens, special)
    pieces = (
        TokenPiece(
            id=token,
            text=text,
            trained=tokenized.first_trained <= index < max_seq_length,
            kept=index < max_seq_length,
            special=token in special,
        )
        for index, (token, text) in enumerate(zip(tokenized.tokens, texts, strict=True))
    )
    return TokenView(tuple(pieces), _templated(tokenizer, record))


def first_line(error: Exception) -> str:
    """What an exception says, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:160].rstrip(".") if lines else type(error).__name__


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

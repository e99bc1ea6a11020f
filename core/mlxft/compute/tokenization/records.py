"""Tokenize records; the trainer, the token view and the statistics share this code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlxft.compute.tokenization.dates import writes_date
from mlxft.compute.tokenization.rendering import TemplateError, encoded, remedy, rendered, with_end
from mlxft.compute.tokenization.tokenizers import Tokenizer
from mlxft.data import formats, spans, truncation
from mlxft.data.formats import Fields
from mlxft.data.messages import is_untrained
from mlxft.data.rendering import Loss
from mlxft.data.spans import Spans
from mlxft.data.truncation import Piece
from mlxft.recipe import Overlong


@dataclass(frozen=True)
class TokenizedRecord:
    """A record's tokens before truncation, and which of them are trained."""

    tokens: tuple[int, ...]
    spans: Spans
    prompt_is_prefix: bool = True
    """Whether the record begins with its rendered prompt; if not, training starts at the first
    difference."""
    end_added: bool = False
    """Whether the chat template wrote no end token, so that it was added."""

    closing: int = 1
    """How many of the last tokens are the end token and whitespace after it."""
    text: str | None = None
    """The conversation as rendered; None for plain text."""
    losses: frozenset[Loss] = frozenset()
    """What the chat template leaves out."""
    dated: bool = False
    """Whether the chat template writes the current date."""
    doubled: bool = False
    """Whether it begins with two beginning tokens or ends with two end tokens."""

    def pieces(self, max_seq_length: int, choice: Overlong) -> tuple[Piece, ...]:
        """The sequences of it that are trained."""
        length = len(self.tokens)
        return truncation.pieces(length, self.spans, max_seq_length, choice, self.closing)


def tokenize(
    tokenizer: Tokenizer, fields: Fields, mask_prompt: bool, place: str = "This record"
) -> TokenizedRecord:
    """Tokenize a record without faults, like mlx_lm's datasets.

    With `mask_prompt` only the last message is trained, otherwise everything after the last answer
    that is marked as not to be trained. Unlike mlx_lm, adds the model's end token if the chat
    template doesn't end the answer: without it a model never learns to stop. Raises `TemplateError`
    beginning with `place` if the chat template rejects the record.
    """
    messages = formats.conversation(fields)
    if messages is None:
        tokens = _text_tokens(tokenizer, fields["text"])
        trained = spans.from_index(1, len(tokens))
        return TokenizedRecord(tokens, trained, doubled=_is_doubled(tokenizer, tokens))
    messages = _up_to_last_trained(messages)
    masked = len(messages) - 1 if mask_prompt else _untrained_messages(messages)
    try:
        found = rendered(tokenizer, messages, fields.get("tools") or None, masked)
    except Exception as error:  # a chat template may raise anything
        raise TemplateError(place, error, remedy(tokenizer, messages)) from error
    tokens = encoded(tokenizer, found.text)
    prompt = encoded(tokenizer, found.prompt) if masked else ()
    first = _common_prefix(tokens, prompt)
    closing = _closing(tokenizer, tokens)
    whole = tokens if closing else (*tokens, tokenizer.eos_token_id)
    return TokenizedRecord(
        tokens=whole,
        spans=spans.from_index(first, len(whole)),
        prompt_is_prefix=first == len(prompt),
        end_added=len(whole) > len(tokens),
        closing=closing or 1,
        text=found.text,
        losses=found.losses,
        dated=writes_date(tokenizer),
        doubled=_is_doubled(tokenizer, whole),
    )


def _is_doubled(tokenizer: Tokenizer, tokens: Sequence[int]) -> bool:
    """Whether tokens begin with two beginning tokens or end with the same end token twice."""
    begins = len(tokens) > 1 and tokens[0] == tokens[1] == tokenizer.bos_token_id
    last = [token for token in tokens[-4:] if tokenizer.decode([token]).strip()][-2:]
    ends = len(last) == 2 and last[0] == last[1] and last[0] in tokenizer.eos_token_ids
    return begins or ends


def _up_to_last_trained(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation without what follows its last trained answer."""
    trained = [at for at, each in enumerate(messages) if _is_trained_answer(each)]
    return messages[: trained[-1] + 1] if trained else messages


def _untrained_messages(messages: list[dict[str, Any]]) -> int:
    """How many messages to mask, so that no answer marked as not to be trained is."""
    untrained = [
        at for at, each in enumerate(messages) if each["role"] == "assistant" and is_untrained(each)
    ]
    if not untrained:
        return 0
    later = range(untrained[-1] + 1, len(messages))
    return next((at for at in later if messages[at]["role"] == "assistant"), 0)


def _is_trained_answer(message: dict[str, Any]) -> bool:
    return bool(message["role"] == "assistant") and not is_untrained(message)


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


def _text_tokens(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """A plain text with one beginning and one end token, also if it has them already."""
    has_begin, has_end = own_ends(tokenizer, text)
    tokens = tuple(tokenizer.encode(text, add_special_tokens=not has_begin))
    return tokens if has_end else with_end(tokenizer, tokens)


def own_ends(tokenizer: Tokenizer, text: str) -> tuple[bool, bool]:
    """Whether a text begins with the beginning token, and whether it ends with an end token."""
    begin = tokenizer.bos_token
    ends = [tokenizer.convert_ids_to_tokens(each) for each in tokenizer.eos_token_ids]
    written = text.rstrip()
    has_end = any(isinstance(end, str) and bool(end) and written.endswith(end) for end in ends)
    return bool(begin) and text.startswith(begin), has_end


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

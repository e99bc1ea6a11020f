"""Tokenize records; the trainer, the token view and the statistics share this code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlxft.compute.tokenization.dates import writes_date
from mlxft.compute.tokenization.rendering import (
    Rendered,
    TemplateError,
    common_prefix,
    may_think,
    remedy,
    rendered,
    thought_places,
    tokens_of,
    with_end,
)
from mlxft.compute.tokenization.tokenizers import Tokenizer
from mlxft.compute.tokenization.turns import (
    Messages,
    flagged,
    in_order,
    is_trained_answer,
    trained_together,
    turns_of,
)
from mlxft.data import formats, spans, thoughts, truncation
from mlxft.data.formats import Fields
from mlxft.data.messages import weight_of
from mlxft.data.rendering import Loss, losses
from mlxft.data.spans import Spans
from mlxft.data.truncation import Piece
from mlxft.recipe import Overlong, Recipe


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
    thoughtless: bool = False
    """Whether the model learns to answer without a thought, since the record has none."""
    doubled: bool = False
    """Whether it begins with two beginning tokens or ends with two end tokens."""

    def pieces(self, max_seq_length: int, choice: Overlong) -> tuple[Piece, ...]:
        """The sequences of it that are trained."""
        length = len(self.tokens)
        return truncation.pieces(length, self.spans, max_seq_length, choice, self.closing)


def tokenize(
    tokenizer: Tokenizer, fields: Fields, recipe: Recipe, place: str = "This record"
) -> tuple[TokenizedRecord, ...]:
    """Tokenize a record without faults, like mlx_lm's datasets.

    `train_on` says what is trained; the tokens of an answer, and those of all the record, count by
    their weights. All answers of a conversation are one record, or several where the chat template
    writes earlier answers otherwise than the last one. Unlike mlx_lm, adds the model's end token if
    the chat template doesn't end the answer: without it a model never learns to stop. Raises
    `TemplateError` beginning with `place` if the chat template rejects the record.
    """
    messages = formats.conversation(fields)
    if messages is None:
        found: tuple[TokenizedRecord, ...] = (_plain(tokenizer, fields["text"]),)
    else:
        found = _conversation(tokenizer, messages, fields.get("tools") or None, recipe, place)
    weight = weight_of(fields)
    if weight == 1:
        return found
    return tuple(replace(each, spans=spans.scaled(each.spans, weight)) for each in found)


def _plain(tokenizer: Tokenizer, text: str) -> TokenizedRecord:
    tokens = _text_tokens(tokenizer, text)
    trained = spans.from_index(1, len(tokens))
    return TokenizedRecord(tokens, trained, doubled=_is_doubled(tokenizer, tokens))


def _conversation(
    tokenizer: Tokenizer, messages: Messages, tools: Any, recipe: Recipe, place: str
) -> tuple[TokenizedRecord, ...]:
    messages = _up_to_last_trained(messages)
    if recipe.reasoning == "drop":
        messages = [*map(thoughts.without, messages)]
    try:
        return _trained(tokenizer, messages, tools, recipe)
    except Exception as error:  # a chat template may raise anything
        if recipe.chat_template is None:
            raise TemplateError(place, error, remedy(tokenizer, messages)) from error
        raise TemplateError(
            place, error, "correct the template, or change the record", recipe.chat_template
        ) from error


def _trained(
    tokenizer: Tokenizer, messages: Messages, tools: Any, recipe: Recipe
) -> tuple[TokenizedRecord, ...]:
    """What is trained of a conversation. Raises whatever the chat template raises."""
    if recipe.train_on == "all_answers":
        return _all_answers(tokenizer, messages, tools, recipe)
    return (_from_prompt(tokenizer, messages, tools, recipe),)


def _all_answers(
    tokenizer: Tokenizer, messages: Messages, tools: Any, recipe: Recipe
) -> tuple[TokenizedRecord, ...]:
    turns = tuple(turns_of(tokenizer, messages, tools))
    together = trained_together(tokenizer, turns, lambda turn: _ended(tokenizer, turn.tokens))
    is_found = all(each.is_found for each in turns)
    return tuple(
        _record(
            tokenizer,
            each.last.rendered,
            each.last.tokens,
            each.spans,
            recipe,
            prompt_is_prefix=is_found,
        )
        for each in together
    )


def _from_prompt(
    tokenizer: Tokenizer, messages: Messages, tools: Any, recipe: Recipe
) -> TokenizedRecord:
    """The conversation trained whole or after its prompt, with all of its answers' weights."""
    masked = recipe.train_on == "last_answer"
    # No template owes the thoughts of earlier turns.
    needed = [*map(thoughts.without, messages[:-1]), messages[-1]]
    asks = masked or may_think(tokenizer) or bool(thoughts.thought_of(messages[-1]))
    found = rendered(tokenizer, messages, tools, needed, asks=asks)
    if not masked and any(map(thoughts.thought_of, messages[:-1])):
        found = replace(found, losses=losses(messages, tools, found.text))
    tokens, prompt = tokens_of(tokenizer, found)
    prompt = prompt if masked else ()
    first = common_prefix(tokens, prompt)
    length = len(_ended(tokenizer, tokens))
    trained = spans.from_index(first, length)
    if masked:
        trained = spans.scaled(trained, weight_of(messages[-1]))
    elif any(weight_of(each) != 1 for each in messages if each["role"] == "assistant"):
        trained = _around(trained, in_order([*flagged(tokenizer, messages, tools, tokens)]))
    is_found = first == len(prompt)
    return _record(tokenizer, found, tokens, trained, recipe, prompt_is_prefix=is_found)


def _around(trained: Spans, others: Spans) -> Spans:
    """Trained tokens, where others have a weight of their own."""
    pieces, at = list(others), 1
    for start, stop, _ in (*others, *((each.stop, each.stop, 0) for each in trained[-1:])):
        pieces += spans.clipped(trained, at, start, to=at)
        at = stop
    return spans.joined(pieces)


def _record(
    tokenizer: Tokenizer,
    found: Rendered,
    tokens: tuple[int, ...],
    trained: Spans,
    recipe: Recipe,
    *,
    prompt_is_prefix: bool,
) -> TokenizedRecord:
    whole = _ended(tokenizer, tokens)
    if recipe.reasoning == "mask":
        trained = spans.cut(trained, thought_places(tokenizer, found, tokens))
    return TokenizedRecord(
        tokens=whole,
        spans=trained,
        prompt_is_prefix=prompt_is_prefix,
        end_added=len(whole) > len(tokens),
        closing=_closing(tokenizer, tokens) or 1,
        text=found.text,
        losses=found.losses,
        dated=writes_date(tokenizer),
        thoughtless=recipe.reasoning == "train"
        and thoughts.begins_without(found.text, found.prompt),
        doubled=_is_doubled(tokenizer, whole),
    )


def _ended(tokenizer: Tokenizer, tokens: tuple[int, ...]) -> tuple[int, ...]:
    return tokens if _closing(tokenizer, tokens) else (*tokens, tokenizer.eos_token_id)


def _is_doubled(tokenizer: Tokenizer, tokens: Sequence[int]) -> bool:
    """Whether tokens begin with two beginning tokens or end with the same end token twice."""
    begins = len(tokens) > 1 and tokens[0] == tokens[1] == tokenizer.bos_token_id
    last = [token for token in tokens[-4:] if tokenizer.decode([token]).strip()][-2:]
    ends = len(last) == 2 and last[0] == last[1] and last[0] in tokenizer.eos_token_ids
    return begins or ends


def _up_to_last_trained(messages: Messages) -> Messages:
    """The conversation without what follows its last trained answer."""
    trained = [at for at, each in enumerate(messages) if is_trained_answer(each)]
    return messages[: trained[-1] + 1] if trained else messages


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

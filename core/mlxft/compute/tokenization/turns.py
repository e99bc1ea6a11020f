"""What the model has to write in each turn of a conversation, and what it sees at that turn.

A template may write earlier turns otherwise than the last one: without their thoughts, trimmed, or
with another end. Then a turn is trained as the end of a record of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlxft.compute.tokenization.rendering import (
    Rendered,
    common_prefix,
    encoded,
    rendered,
    tokens_of,
)
from mlxft.compute.tokenization.tokenizers import Tokenizer, special_ids
from mlxft.data.messages import weight_of
from mlxft.data.spans import Span, Spans
from mlxft.data.thoughts import without

Messages = list[dict[str, Any]]

_GENERATION_MARK: Final = re.compile(r"\{%[-+]?\s*generation\s*([-+]?%\})")


@dataclass(frozen=True)
class Turn:
    """An assistant turn, and the conversation that ends with it."""

    weight: float
    tokens: tuple[int, ...]
    """The whole conversation up to it."""
    start: int
    """The first token that the model has to write."""
    stop: int
    """After its end-of-turn token, or after all tokens where the template writes none."""
    is_ended: bool
    is_found: bool
    """Whether the conversation begins with its prompt, or the template marks the turn."""
    rendered: Rendered


@dataclass(frozen=True)
class Trained:
    """A conversation up to its last turn, and the turns that can be trained in it."""

    last: Turn
    whole: tuple[int, ...]
    spans: Spans


def turns_of(tokenizer: Tokenizer, messages: Messages, tools: Any) -> Iterator[Turn]:
    """The trained turns in order. Raises whatever the chat template raises."""
    for at, message in enumerate(messages):
        if is_trained_answer(message):
            yield _turn(tokenizer, messages[: at + 1], tools)


def is_trained_answer(message: dict[str, Any]) -> bool:
    """Whether a message is an answer with a weight."""
    return bool(message["role"] == "assistant") and weight_of(message) > 0


def _turn(tokenizer: Tokenizer, messages: Messages, tools: Any) -> Turn:
    # No template owes the thoughts of earlier turns.
    needed = [*map(without, messages[:-1])]
    found = rendered(tokenizer, messages, tools, [*needed, messages[-1]])
    tokens, prompt = tokens_of(tokenizer, found)
    start = common_prefix(tokens, prompt)
    stop = end_of_turn(tokenizer, tokens)
    is_found = start == len(prompt)
    marked = _marked(tokenizer, found, tokens)
    if marked is not None:
        start = max(start, marked) if is_found else marked
    return Turn(
        weight=weight_of(messages[-1]),
        tokens=tokens,
        start=max(1, start),
        stop=stop or len(tokens),
        is_ended=stop is not None,
        is_found=is_found or marked is not None,
        rendered=found,
    )


def end_of_turn(tokenizer: Tokenizer, tokens: Sequence[int]) -> int | None:
    """The index after the token that ends the last turn; None if there is none.

    That is an end token or another special one, perhaps followed by whitespace.
    """
    ends = special_ids(tokenizer) | set(tokenizer.eos_token_ids)
    for stop in range(len(tokens), 0, -1):
        if tokens[stop - 1] in ends:
            return stop
        if tokenizer.decode([tokens[stop - 1]]).strip():
            return None
    return None


def _marked(tokenizer: Tokenizer, found: Rendered, tokens: Sequence[int]) -> int | None:
    """Where the last turn begins by the template's own generation marks; None without any."""
    template = tokenizer.chat_template if tokenizer.has_chat_template else None
    if not isinstance(template, str) or not _GENERATION_MARK.search(template):
        return None
    try:
        marked = tokenizer.apply_chat_template(
            found.form, tools=found.tools, tokenize=False, chat_template=_written(template)
        )
    except Exception:  # a chat template may raise anything
        return None
    text, mark, _ = str(marked).rpartition(_MARK)
    if not mark or str(marked).replace(_MARK, "") != found.text:
        return None
    return common_prefix(tokens, encoded(tokenizer, text.replace(_MARK, "")))


_MARK: Final = "\ue000\ue001"
"""Characters for private use, which no text of a record has."""


def _written(template: str) -> str:
    """The template with a text where each generation begins."""
    # A tag's own end comes last, so that it strips the same whitespace as before.
    return _GENERATION_MARK.sub(
        lambda mark: f"{mark[0]}{{{{ '{_MARK}' }}}}{{% set marked = true {mark[1]}", template
    )


def trained_together(
    tokenizer: Tokenizer, turns: Sequence[Turn], ended: Callable[[Turn], tuple[int, ...]]
) -> tuple[Trained, ...]:
    """The fewest conversations that show each turn what the model would have seen there, in order.

    `ended` gives a turn's whole conversation with an end token.
    """
    left, found = list(turns), list[Trained]()
    while left:
        last = left.pop()
        whole = ended(last)
        stop = last.stop if len(whole) == len(last.tokens) else len(whole)
        spans, apart = [Span(last.start, stop, last.weight)], []
        for turn in left:
            if (stop_within := _stop_within(tokenizer, turn, whole)) is None:
                apart.append(turn)
            else:
                spans.append(Span(turn.start, stop_within, turn.weight))
        left = apart
        found.append(Trained(last, whole, in_order(spans)))
    return tuple(reversed(found))


def _stop_within(tokenizer: Tokenizer, turn: Turn, whole: Sequence[int]) -> int | None:
    """Where a turn ends in a longer conversation; None unless it is the same there.

    Where the template writes no end token, the model writes the next turn's first one.
    """
    if tuple(whole[: turn.stop]) != turn.tokens[: turn.stop]:
        return None
    ends = tokenizer.eos_token_ids
    if turn.tokens[turn.stop - 1] not in ends and any(
        token in ends for token in whole[turn.stop : turn.stop + 1]
    ):
        return turn.stop + 1
    return turn.stop if turn.is_ended else None


def in_order(found: Sequence[Span]) -> Spans:
    """The spans in order, none before the end of the one before it."""
    ordered, reached = list[Span](), 1
    for start, stop, weight in sorted(found):
        if max(start, reached) < stop:
            ordered.append(Span(max(start, reached), stop, weight))
            reached = stop
    return tuple(ordered)


def flagged(
    tokenizer: Tokenizer, messages: Messages, tools: Any, whole: Sequence[int]
) -> Iterator[Span]:
    """Where the answers with a weight other than 1 stand in a whole conversation.

    An answer that stands there otherwise than as the last one reaches from its prompt to the first
    end token.
    """
    for at, message in enumerate(messages):
        if message["role"] != "assistant" or (weight := weight_of(message)) == 1:
            continue
        turn = _turn(tokenizer, messages[: at + 1], tools)
        stop = _stop_within(tokenizer, turn, whole)
        start = turn.start
        if stop is None:
            start = common_prefix(whole, encoded(tokenizer, turn.rendered.prompt))
            after = range(start, len(whole))
            ends = (each for each in after if whole[each] in tokenizer.eos_token_ids)
            stop = next(ends, len(whole) - 1) + 1
        yield Span(start, stop, weight)

"""Conversations as the chat template writes them, in the forms that templates differ in."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from mlxft.compute.tokenization.tokenizers import Tokenizer, first_line
from mlxft.data import call_forms, thoughts
from mlxft.data.rendering import Loss, losses
from mlxft.errors import DataError


class TemplateError(DataError):
    """The chat template, the model's own or another, rejects a record."""

    def __init__(self, place: str, error: Exception, remedy: str, template: str = "") -> None:
        self.reason = first_line(error)
        named = f"chat_template {template}" if template else "the model's chat template"
        super().__init__(f"{place}: {named} rejects it ({self.reason}); {remedy}.")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, and the prompt that it should begin with."""

    text: str
    prompt: str
    losses: frozenset[Loss]
    form: list[dict[str, Any]]
    """The messages as the template got them."""
    tools: Any
    messages: Sequence[dict[str, Any]] = ()
    """The messages as they were given."""


def rendered(
    tokenizer: Tokenizer,
    messages: list[dict[str, Any]],
    tools: Any,
    needed: list[dict[str, Any]] | None = None,
    *,
    asks: bool = True,
) -> Rendered:
    """The conversation rendered in the first form that the template takes, without losses if any.

    A last answer is rendered as the model would write it after its prompt: with its thought, or
    with an empty one where the prompt begins one, or without where the prompt has ended it.
    `needed` is what the text must hold if that is less than the messages; without `asks` there is
    no prompt. Raises whatever the template raises for the conversation as it is.
    """
    needed, last = needed or messages, messages[-1]
    first = found = _in_best_form(tokenizer, messages, tools, needed, asks=asks)
    if not found.prompt or not tokenizer.has_chat_template:
        return replace(found, messages=messages)
    text, thought = found.text, thoughts.thought_of(last)
    if thoughts.is_closed(found.prompt):
        silent = thoughts.without(last)
        if thought:
            needed_silent = [*needed[:-1], silent]
            found = _in_best_form(tokenizer, [*messages[:-1], silent], tools, needed_silent)
        text = thoughts.from_closed_prompt(found.text, found.prompt)
    elif tags := thoughts.opened(found.prompt):
        text = thoughts.from_open_prompt(text, found.prompt, tags, last)
    elif tokenizer.has_thinking and thought and thought not in text:
        tags = (tokenizer.think_start, tokenizer.think_end)
        text = thoughts.with_thought(text, found.prompt, tags, last)
    missing = first.losses if text == first.text else losses(needed, tools, text)
    return replace(found, text=text, losses=missing, messages=messages)


def tokens_of(tokenizer: Tokenizer, found: Rendered) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of a conversation and of its prompt.

    After a prompt that begins a thought the answer has tokens of its own, since it is generated
    after these and not after one that spans both.
    """
    tokens, prompt = encoded(tokenizer, found.text), encoded(tokenizer, found.prompt)
    if (
        thoughts.opened(found.prompt)
        and found.text.startswith(found.prompt)
        and tokens[: len(prompt)] != prompt
    ):
        answer = tokenizer.encode(found.text[len(found.prompt) :], add_special_tokens=False)
        tokens = (*prompt, *answer)
    return tokens, prompt


def may_think(tokenizer: Tokenizer) -> bool:
    """Whether a prompt may begin or end a thought."""
    if tokenizer.has_thinking:
        return True
    template = str(tokenizer.chat_template) if tokenizer.has_chat_template else ""
    return any(each in template for tags in thoughts.TAGS[:-2] for each in tags)


def thought_places(
    tokenizer: Tokenizer, found: Rendered, tokens: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """From which to before which token the thoughts of a conversation stand, tags included."""
    prompt = encoded(tokenizer, found.prompt)

    def token_at(place: int) -> int:
        whole = common_prefix(tokens, encoded(tokenizer, found.text[:place]))
        if place < len(found.prompt) or tuple(tokens[: len(prompt)]) != prompt:
            return whole
        answer = tokenizer.encode(found.text[len(found.prompt) : place], add_special_tokens=False)
        return max(whole, len(prompt) + common_prefix(tokens[len(prompt) :], answer))

    for start, stop in thoughts.places(found.text, found.messages):
        yield token_at(start), token_at(stop)


def common_prefix(tokens: Sequence[int], prompt: Sequence[int]) -> int:
    """The length of the common prefix of record and prompt.

    It may be shorter than the prompt: a template may open an answer with more than a finished one
    has, and tokens may merge across the border.
    """
    pairs = zip(tokens, prompt, strict=False)
    return next(
        (index for index, (left, right) in enumerate(pairs) if left != right),
        min(len(tokens), len(prompt)),
    )


def _in_best_form(
    tokenizer: Tokenizer,
    messages: list[dict[str, Any]],
    tools: Any,
    needed: list[dict[str, Any]],
    *,
    asks: bool = True,
) -> Rendered:
    """The conversation in the form that loses least."""
    masked = len(messages) - 1 if asks and messages[-1]["role"] == "assistant" else 0
    failure: Exception | None = None
    best: Rendered | None = None
    # Some templates list tools without asking whether there are any.
    for given, form in product([tools] if tools else [None, []], _forms(tokenizer, messages)):
        if best is not None and given == []:
            break
        try:
            found = _rendered_form(tokenizer, form, needed, given, masked)
        except Exception as error:  # a chat template may raise anything
            failure = failure or error
            continue
        if best is None or len(found.losses) < len(best.losses):
            best = found
        if not best.losses:
            break
    if best is None:
        assert failure is not None
        raise failure
    return best


def _forms(tokenizer: Tokenizer, messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The conversation in the forms that templates differ in; most take the first."""
    as_given, messages = messages, [*map(thoughts.apart, messages)]
    yield messages
    if any(each.get("tool_calls") for each in messages):
        with_ids = call_forms.with_ids(messages)
        yield with_ids
        yield call_forms.with_text_arguments(messages)
        yield call_forms.with_text_arguments(with_ids)
        yield call_forms.with_naming_ids(messages)
    if any(each.get("reasoning_content") for each in messages):
        yield call_forms.with_reasoning_keys(messages)
        yield call_forms.with_thinking_parts(messages)
        if as_given != messages:
            yield as_given
        if tokenizer.has_thinking:
            tags = (tokenizer.think_start, tokenizer.think_end)
            yield call_forms.with_think_tags(messages, tags)
    if tokenizer.has_chat_template:
        yield call_forms.with_parts(messages)


def _rendered_form(
    tokenizer: Tokenizer,
    form: list[dict[str, Any]],
    messages: list[dict[str, Any]],
    tools: Any,
    masked: int,
) -> Rendered:
    text = render_text(tokenizer, form, tools)
    if _writes_parts(form, text):
        raise ValueError("the chat template writes parts as they are")
    prompt = render_text(tokenizer, form[:masked], tools, answering=True) if masked else ""
    missing = losses(messages, tools, text)
    # Some templates write a system message or tools only into an open prompt.
    completed = _completed(tokenizer, form, tools, text) if missing and len(form) > 1 else ""
    if completed and len(fewer := losses(messages, tools, completed)) < len(missing):
        return Rendered(completed, prompt, fewer, form, tools)
    return Rendered(text, prompt, missing, form, tools)


def _writes_parts(messages: Sequence[Any], text: str) -> bool:
    """Whether a chat template that takes texts alone wrote contents in parts as they are."""
    contents = [each["content"] for each in messages if isinstance(each.get("content"), list)]
    own = sum(len(_PART.findall(part.get("text", ""))) for content in contents for part in content)
    return bool(contents) and len(_PART.findall(text)) > own


_PART: Final = re.compile(r"""['"]type['"]: *['"]text['"]""")


def _completed(tokenizer: Tokenizer, form: list[dict[str, Any]], tools: Any, text: str) -> str:
    """The open prompt, continued by the last answer and its end as the finished text has them."""
    opened = ""
    with contextlib.suppress(Exception):  # a chat template may raise anything
        opened = render_text(tokenizer, form[:-1], tools, answering=True)
    content = form[-1].get("content") or ""
    content = content.strip() if isinstance(content, str) else ""
    at = text.rfind(content) if content and opened else -1
    if at < 0:
        return ""
    if at and text[at - 1] == " " and not opened.endswith(" "):
        at -= 1
    return opened + text[at:]


def remedy(tokenizer: Tokenizer, messages: Sequence[Any]) -> str:
    """What helps where a chat template rejects a conversation."""
    if messages[0]["role"] == "system":
        with contextlib.suppress(Exception):
            render(tokenizer, messages[1:])
            return "move the system message into the user's message"
    return "change the record or choose another model"


def render(
    tokenizer: Tokenizer, messages: Sequence[Any], tools: Any = None, *, answering: bool = False
) -> tuple[int, ...]:
    """A conversation as tokens; `answering` adds the generation prompt.

    Without a chat template the contents are joined as plain text, ended unless `answering`.
    """
    tokens = encoded(tokenizer, render_text(tokenizer, messages, tools, answering=answering))
    if tokenizer.has_chat_template or answering:
        return tokens
    return with_end(tokenizer, tokens)


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Any]) -> tuple[int, ...]:
    """An open conversation as tokens, in the form that the chat template takes.

    Raises whatever the template raises for it.
    """
    if not tokenizer.has_chat_template:
        return render(tokenizer, messages, answering=True)
    failure: Exception | None = None
    first: str | None = None
    for tools, form in product((None, []), (messages, call_forms.with_parts(messages))):
        try:
            text = render_text(tokenizer, form, tools, answering=True)
        except Exception as error:  # a chat template may raise anything
            failure = failure or error
            continue
        if _writes_parts(form, text):
            continue
        if "a message" not in losses(messages, None, text):
            return encoded(tokenizer, text)
        first = first or text
    if first is not None:
        return encoded(tokenizer, first)
    assert failure is not None
    raise failure


def render_text(
    tokenizer: Tokenizer, messages: Sequence[Any], tools: Any = None, *, answering: bool = False
) -> str:
    """A conversation as the chat template renders it, or its contents joined without one."""
    if not tokenizer.has_chat_template:
        return "".join(message["content"] or "" for message in messages)
    return str(
        tokenizer.apply_chat_template(
            list(messages), tools=tools, add_generation_prompt=answering, tokenize=False
        )
    )


def encoded(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """A rendered text as tokens; a chat template writes its own beginning token."""
    return tuple(tokenizer.encode(text, add_special_tokens=not tokenizer.has_chat_template))


def with_end(tokenizer: Tokenizer, tokens: tuple[int, ...]) -> tuple[int, ...]:
    end = tokenizer.eos_token_id
    return tokens if end is None or tokens[-1:] == (end,) else (*tokens, end)

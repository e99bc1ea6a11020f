"""Check that a rendered conversation contains everything the record holds; pure.

A chat template is a program of the model's author: it may leave out what it doesn't know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from mlxft.data.formats import Fields

Loss = Literal[
    "the system message", "a message", "the tools", "the tool calls", "a tool result", "reasoning"
]
"""What a chat template can leave out."""

LOSSES: Final[tuple[Loss, ...]] = get_args(Loss)

_THINK_START: Final = "<think>"
_THINK_END: Final = "</think>"


def losses(messages: Sequence[Fields], tools: Any, text: str) -> frozenset[Loss]:
    """What of a conversation is missing in its rendered text."""
    return frozenset((*_message_losses(messages, text), *_tool_losses(tools, text)))


def _message_losses(messages: Sequence[Fields], text: str) -> Iterator[Loss]:
    at = 0
    for message in messages:
        role, content = message["role"], message.get("content")
        content = content if isinstance(content, str) else ""
        if role == "assistant":
            ends = yield from _answer_losses(message, content, text, at)
            at = max(at, ends)
            continue
        end = _found(content, text, at)
        if end is not None:
            # A system message may stand before a later question.
            at = end if role != "system" else at
        elif _found(content, text, 0) is None:
            # A template may move a message, so it is searched everywhere.
            yield _OF_ROLE.get(role, "a message")


_OF_ROLE: Final[Mapping[str, Loss]] = {"system": "the system message", "tool": "a tool result"}


def _answer_losses(
    message: Fields, content: str, text: str, start: int
) -> Generator[Loss, None, int]:
    """What is missing of an answer, which must come after what was found before it."""
    ends = [start]
    reasoning, answer = _parted(content)
    if (end := _found(content, text, start)) is not None:
        ends.append(end)
    elif reasoning and (end := _found(answer, text, start)) is not None:
        ends.append(end)
        if _found(reasoning, text, start) is None:
            yield "reasoning"
    else:
        yield "a message"
    thought = message.get("reasoning_content")
    if isinstance(thought, str) and _found(thought, text, start) is None:
        yield "reasoning"
    call_ends = [_found(each, text, start) for each in _call_texts(message.get("tool_calls"))]
    if None in call_ends:
        yield "the tool calls"
    else:
        ends += [end for end in call_ends if end is not None]
    return max(ends)


def _parted(content: str) -> tuple[str, str]:
    """The reasoning within think tags, and the answer after it."""
    reasoning, tag, answer = content.rpartition(_THINK_END)
    return (reasoning.rpartition(_THINK_START)[2], answer) if tag else ("", content)


def _call_texts(calls: Any) -> Iterator[str]:
    """The names and arguments of calls."""
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function", call)
        yield str(function.get("name", ""))
        yield from _leaves(function.get("arguments"))


def _leaves(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            for key, each in value.items():
                yield str(key)
                yield from _leaves(each)
        case list():
            for each in value:
                yield from _leaves(each)
        case str():
            yield value
        case bool() | None:
            return  # Written as true, True or 1.
        case int():
            yield str(value)


def _tool_losses(tools: Any, text: str) -> Iterator[Loss]:
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function", tool)
        if any(_found(each, text, 0) is None for each in _tool_texts(function)):
            yield "the tools"
            return


def _tool_texts(function: Fields) -> Iterator[str]:
    """A tool's name and description, and those of its parameters."""
    yield from _texts(function)
    schema = function.get("parameters")
    found = schema.get("properties") if isinstance(schema, Mapping) else None
    for name, each in found.items() if isinstance(found, Mapping) else ():
        yield str(name)
        yield from _texts(each) if isinstance(each, Mapping) else ()


def _texts(described: Fields) -> Iterator[str]:
    for key in ("name", "description"):
        if isinstance(described.get(key), str):
            yield described[key]


def _found(needle: str, text: str, start: int) -> int | None:
    """The end of a text in the rendered one, written as it is or within JSON; None if missing."""
    needle = needle.strip()
    if not needle:
        return start
    for form in _forms(needle):
        at = text.find(form, start)
        if at >= 0:
            return at + len(form)
    if "\n" in needle and (found := _any_line_ends(needle).search(text, start)):
        return found.end()
    return None


def _any_line_ends(needle: str) -> re.Pattern[str]:
    """The text with any number of line ends between its lines, which some templates reduce."""
    lines = filter(None, map(str.rstrip, needle.splitlines()))
    return re.compile(r"[ \t]*(?:\r?\n)+".join(map(re.escape, lines)))


def _forms(needle: str) -> Iterator[str]:
    yield needle
    for ascii_only in (False, True):
        escaped = json.dumps(needle, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield json.dumps(escaped)[1:-1]  # JSON text within JSON.
    yield repr(needle)[1:-1]  # An object as Python writes it.

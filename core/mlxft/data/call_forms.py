"""Conversations in the forms that chat templates differ in: ids, arguments, reasoning; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from mlxft.data.thoughts import without

Messages = list[dict[str, Any]]

ID_LENGTH: Final = 9
"""Characters of a call id that all templates accept."""


def with_ids(messages: Sequence[dict[str, Any]]) -> Messages:
    """Each call with an id of nine letters and digits, and each result with that of its call."""
    return _identified(messages, lambda count, _: f"call{count:0{ID_LENGTH - 4}}")


def with_naming_ids(messages: Sequence[dict[str, Any]]) -> Messages:
    """Each call with an id that has its name, which Kimi's template writes in place of the name."""
    return _identified(messages, lambda count, name: f"functions.{name}:{count - 1}")


def _identified(
    messages: Sequence[dict[str, Any]], identify: Callable[[int, str], str]
) -> Messages:
    """Each call with an id made of its number and name, each result with that id and name."""
    count, pending = 0, list[tuple[str, str]]()
    found: Messages = []
    for message in messages:
        if message.get("tool_calls"):
            calls, pending = [], []
            for call in message["tool_calls"]:
                count += 1
                name = str(call.get("function", call).get("name", ""))
                pending.append((identify(count, name), name))
                calls.append({**call, "id": pending[-1][0]})
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool" and pending:
            call_id, name = pending.pop(0)
            message = {"name": name, **message, "tool_call_id": call_id}
        found.append(message)
    return found


def with_text_arguments(messages: Sequence[dict[str, Any]]) -> Messages:
    """Each call's arguments as JSON text."""
    return [
        {**message, "tool_calls": [_with_text(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _with_text(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    text = msgspec.json.encode(function.get("arguments", {})).decode()
    return {**call, "function": {**function, "arguments": text}}


def with_reasoning_keys(messages: Sequence[dict[str, Any]]) -> Messages:
    """The reasoning under all keys that templates have for it."""
    return [
        {**message, **dict.fromkeys(("thinking", "reasoning", "thought"), thought)}
        if (thought := message.get("reasoning_content"))
        else message
        for message in messages
    ]


def with_parts(messages: Sequence[dict[str, Any]]) -> Messages:
    """Each content as a list of text parts, as templates of vision models want it."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def with_think_tags(messages: Sequence[dict[str, Any]], tags: tuple[str, str]) -> Messages:
    """The reasoning only within the content, between the model's tags."""
    start, end = tags
    return [
        {**without(message), "content": f"{start}\n{thought}\n{end}\n\n{_text(message)}"}
        if (thought := message.get("reasoning_content"))
        else message
        for message in messages
    ]


def with_thinking_parts(messages: Sequence[dict[str, Any]]) -> Messages:
    """Each content as a list of parts, the reasoning as one of its own, as Mistral's models do."""
    return [
        {
            **without(message),
            "content": [
                {"type": "thinking", "thinking": thought},
                {"type": "text", "text": _text(message)},
            ],
        }
        if (thought := message.get("reasoning_content"))
        else message
        for message in messages
    ]


def _text(message: dict[str, Any]) -> str:
    return str(message.get("content") or "")

"""Conversations in the forms that chat templates differ in: ids, arguments, reasoning; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

Messages = list[dict[str, Any]]

ID_LENGTH: Final = 9
"""Characters of a call id that all templates accept."""


def with_ids(messages: Sequence[dict[str, Any]]) -> Messages:
    """Each call with an id of nine letters and digits, and each result with that of its call."""
    count, open_ids = 0, list[str]()
    found: Messages = []
    for message in messages:
        if message.get("tool_calls"):
            calls = []
            open_ids = []
            for call in message["tool_calls"]:
                count += 1
                open_ids.append(f"call{count:0{ID_LENGTH - 4}}")
                calls.append({**call, "id": open_ids[-1]})
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool" and open_ids:
            message = {**message, "tool_call_id": open_ids.pop(0)}
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


def with_reasoning_key(messages: Sequence[dict[str, Any]], key: str) -> Messages:
    """The reasoning under another key too."""
    return [
        {**message, key: message["reasoning_content"]}
        if message.get("reasoning_content")
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
    """The reasoning within the content, between the model's tags."""
    start, end = tags
    return [
        {**message, "content": f"{start}\n{thought}\n{end}\n\n{message.get('content') or ''}"}
        if (thought := message.get("reasoning_content"))
        else message
        for message in messages
    ]

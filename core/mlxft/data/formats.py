"""The record formats that can be trained, told apart record by record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec

FormatName = Literal["prompt/completion", "messages", "text"]

Fields = Mapping[str, Any]
"""A record as its JSON object holds it."""


class Part(NamedTuple):
    """A labelled piece of a record as a person reads it."""

    label: str
    text: str


@dataclass(frozen=True)
class Format:
    """One way to write a record: the keys that tell it, and its parts in reading order."""

    name: FormatName
    keys: tuple[str, ...]
    has_prompt: bool
    parts: Callable[[Fields], tuple[Part, ...]]


def _prompt_completion_parts(fields: Fields) -> tuple[Part, ...]:
    return (
        *_tools_part(fields),
        Part("prompt", _shown(fields["prompt"])),
        Part("completion", _shown(fields["completion"])),
    )


def _messages_parts(fields: Fields) -> tuple[Part, ...]:
    messages = fields["messages"]
    if not isinstance(messages, list):
        return (Part("messages", _shown(messages)),)
    return (*_tools_part(fields), *(_message_part(message) for message in messages))


def _message_part(message: object) -> Part:
    if not isinstance(message, Mapping):
        return Part("message", _shown(message))
    content, calls = message.get("content"), message.get("tool_calls")
    pieces = [_shown(each) for each in (content, calls) if each is not None]
    return Part(_shown(message.get("role", "message")), "\n".join(pieces))


def _text_parts(fields: Fields) -> tuple[Part, ...]:
    return (Part("text", _shown(fields["text"])),)


def _tools_part(fields: Fields) -> tuple[Part, ...]:
    tools = fields.get("tools")
    return (Part("tools", _shown(tools)),) if tools else ()


def _shown(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


FORMATS: Final = (
    Format("prompt/completion", ("prompt", "completion"), True, _prompt_completion_parts),
    Format("messages", ("messages",), True, _messages_parts),
    Format("text", ("text",), False, _text_parts),
)
"""In order of precedence, which is mlx-lm's: the first whose keys are all there is the one."""


def detect(fields: Fields) -> Format | None:
    """The format of a record; None where it has the keys of none."""
    for each in FORMATS:
        for key in each.keys:
            if key not in fields:
                break
        else:
            return each
    return None


def parts(fields: Fields) -> tuple[Part, ...]:
    """The record in reading order; a record of no known format by its own keys."""
    found = detect(fields)
    if found is not None:
        return found.parts(fields)
    return tuple(Part(key, _shown(value)) for key, value in fields.items())


def describe(fields: Fields) -> str:
    """The record's format in a few words."""
    found = detect(fields)
    if found is None:
        return "unknown format"
    tools = fields.get("tools")
    suffix = f", {len(tools)} tools" if isinstance(tools, list) and tools else ""
    messages = fields.get("messages")
    if found.name == "messages" and isinstance(messages, list):
        return f"{len(messages)} messages{suffix}"
    return found.name + suffix


def conversation(fields: Fields) -> list[dict[str, Any]] | None:
    """The messages that a chat template is given; None for plain text, which has none.

    The record must be free of faults.
    """
    found = detect(fields)
    if found is None or not found.has_prompt:
        return None
    if found.name == "messages":
        return list(fields["messages"])
    return [
        {"role": "user", "content": fields["prompt"]},
        {"role": "assistant", "content": fields["completion"]},
    ]

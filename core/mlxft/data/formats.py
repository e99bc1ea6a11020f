"""The record formats that can be trained, detected record by record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec

FormatName = Literal["prompt/completion", "messages", "text"]

Fields = Mapping[str, Any]
"""A record as its JSON object holds it."""


class RecordPart(NamedTuple):
    """A labelled part of a record, for display."""

    label: str
    text: str


@dataclass(frozen=True)
class Format:
    """A record format: the keys that identify it and its parts in reading order."""

    name: FormatName
    keys: tuple[str, ...]
    has_prompt: bool
    parts: Callable[[Fields], tuple[RecordPart, ...]]


def _prompt_completion_parts(fields: Fields) -> tuple[RecordPart, ...]:
    return (
        *_tools_part(fields),
        RecordPart("prompt", _shown(fields["prompt"])),
        RecordPart("completion", _shown(fields["completion"])),
    )


def _messages_parts(fields: Fields) -> tuple[RecordPart, ...]:
    messages = fields["messages"]
    if not isinstance(messages, list):
        return (RecordPart("messages", _shown(messages)),)
    return (*_tools_part(fields), *(_message_part(message) for message in messages))


def _message_part(message: object) -> RecordPart:
    if not isinstance(message, Mapping):
        return RecordPart("message", _shown(message))
    content, calls = message.get("content"), message.get("tool_calls")
    pieces = [_shown(each) for each in (content, calls) if each is not None]
    return RecordPart(_shown(message.get("role", "message")), "\n".join(pieces))


def _text_parts(fields: Fields) -> tuple[RecordPart, ...]:
    return (RecordPart("text", _shown(fields["text"])),)


def _tools_part(fields: Fields) -> tuple[RecordPart, ...]:
    tools = fields.get("tools")
    return (RecordPart("tools", _shown(tools)),) if tools else ()


def _shown(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


FORMATS: Final = (
    Format("prompt/completion", ("prompt", "completion"), True, _prompt_completion_parts),
    Format("messages", ("messages",), True, _messages_parts),
    Format("text", ("text",), False, _text_parts),
)
"""In mlx-lm's order of precedence: the first format whose keys are all present is used."""


def detect(fields: Fields) -> Format | None:
    """The format of a record; None if it matches none."""
    for each in FORMATS:
        for key in each.keys:
            if key not in fields:
                break
        else:
            return each
    return None


def parts(fields: Fields) -> tuple[RecordPart, ...]:
    """The record's parts in reading order; those of an unknown format are its keys."""
    found = detect(fields)
    if found is not None:
        return found.parts(fields)
    return tuple(RecordPart(key, _shown(value)) for key, value in fields.items())


class Identity(msgspec.Struct, frozen=True, gc=False):
    """A record as a text that is equal for records with the same parts."""

    text: str
    length: int
    """Characters of the parts, without their labels."""
    answer_at: int
    """Where in the text the last answer begins; 0 where no user has asked anything before."""


def identity(fields: Fields) -> Identity:
    """The identity of a record."""
    found = parts(fields)
    text = "\0".join([f"{part.label} \0{part.text}" for part in found])
    length = sum([len(part.text) for part in found])
    return Identity(text, length, _answer_at(found, len(text)))


def _answer_at(found: Sequence[RecordPart], end: int) -> int:
    labels = [part.label for part in found]
    for at in reversed(range(len(found))):
        end -= len(labels[at]) + len(" \0") + len(found[at].text)
        if labels[at] in _ANSWERS:
            return end if any(label in _QUESTIONS for label in labels[:at]) else 0
        end -= len("\0")
    return 0


_ANSWERS: Final = ("completion", "assistant")
_QUESTIONS: Final = ("prompt", "user")


def conversation(fields: Fields) -> list[dict[str, Any]] | None:
    """The messages passed to the chat template; None for plain text.

    The record must have no faults.
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

"""Read the two kinds of records that most files hold at a third of the usual cost.

A line is decoded into texts only if nothing about it needs a closer look; all others are left to
`read_line`, which would say the same of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from mlxft.data.formats import FormatName, Identity
from mlxft.data.record_checks import is_filled


class PlainRecord(msgspec.Struct, frozen=True, gc=False):
    """A valid record that is trained as it is written."""

    format: FormatName
    identity: Identity


class _Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    prompt: str
    completion: str


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class _Conversation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    messages: list[_Message]


_PAIR: Final = msgspec.json.Decoder(_Pair)
_CONVERSATION: Final = msgspec.json.Decoder(_Conversation)

_SHORTEST_REPEAT: Final = len('{"prompt":"","prompt":"","completion":""}')
_BEFORE_ANSWER: Final = len("prompt \0\0")
_PAIR_QUOTES: Final = 8
_MESSAGE_QUOTES: Final = 8
_CONVERSATION_QUOTES: Final = 2


def _plain_pair(raw: bytes) -> PlainRecord | None:
    try:
        pair = _PAIR.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    prompt, completion = pair.prompt, pair.completion
    length = len(prompt) + len(completion)
    if not (
        # Of two equal keys only the last was decoded.
        (len(raw) - length < _SHORTEST_REPEAT or raw.count(b'"') == _PAIR_QUOTES)
        and is_filled(prompt)
        and is_filled(completion)
        and not prompt.lstrip().startswith("[")
        and not completion.lstrip().startswith("[")
    ):
        return None
    text = f"prompt \0{prompt}\0completion \0{completion}"
    return PlainRecord("prompt/completion", Identity(text, length, len(prompt) + _BEFORE_ANSWER))


def _plain_conversation(raw: bytes) -> PlainRecord | None:
    try:
        messages = _CONVERSATION.decode(raw).messages
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if raw.count(b'"') != _CONVERSATION_QUOTES + _MESSAGE_QUOTES * len(messages):
        return None
    answered = False
    for each in messages:
        if each.role == "assistant":
            answered = True
        elif each.role != "user":
            if each.role == "tool" and not answered:
                return None
            continue
        if not is_filled(each.content):
            return None
    if not messages or messages[-1].role != "assistant":
        return None
    text = "\0".join([f"{each.role} \0{each.content}" for each in messages])
    length = sum([len(each.content) for each in messages])
    asked = "user" in [each.role for each in messages]
    answer_at = len(text) - len("assistant \0") - len(messages[-1].content) if asked else 0
    return PlainRecord("messages", Identity(text, length, answer_at))


PlainReader = Callable[[bytes], PlainRecord | None]

READERS: Final[Mapping[str, PlainReader]] = MappingProxyType(
    {"prompt/completion": _plain_pair, "messages": _plain_conversation}
)
"""How to read a line if it is a plain record of a format."""

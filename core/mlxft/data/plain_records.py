"""Read the two kinds of records that most files hold at a third of the usual cost.

A line is decoded into texts only if nothing about it needs a closer look; all others are left to
`read_line`, which would say the same of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import msgspec

from mlxft.data.formats import FormatName
from mlxft.data.record_checks import is_filled


class PlainRecord(NamedTuple):
    """A valid record that is trained as it is written."""

    format: FormatName
    identity: str
    """Equal for records with the same parts."""
    length: int
    """Characters of its parts, without labels."""


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
    return PlainRecord("prompt/completion", f"prompt \0{prompt}\0completion \0{completion}", length)


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
    identity = "\0".join([f"{each.role} \0{each.content}" for each in messages])
    return PlainRecord("messages", identity, sum([len(each.content) for each in messages]))


PlainReader = Callable[[bytes], PlainRecord | None]

READERS: Final[Mapping[str, PlainReader]] = MappingProxyType(
    {"prompt/completion": _plain_pair, "messages": _plain_conversation}
)
"""How to read a line if it is a plain record of a format."""

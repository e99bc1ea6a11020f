"""Read the two kinds of records that most files hold at a third of the usual cost.

A line is decoded into texts only if nothing about it needs a closer look; all others are left to
`read_line`, which would say the same of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from mlxft.data.formats import Identity
from mlxft.data.record_checks import is_filled
from mlxft.data.record_warnings import may_hold_placeholder


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


def _plain_pair(raw: bytes) -> Identity | None:
    try:
        pair = _PAIR.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    prompt, completion = pair.prompt, pair.completion
    length = len(prompt) + len(completion)
    if not (
        # Of two equal keys only the last was decoded.
        (len(raw) - length < _SHORTEST_REPEAT or _quotes(raw) == _PAIR_QUOTES)
        and (prompt[:1] in _PLAIN_BEGINNINGS or _is_plain(prompt))
        and (completion[:1] in _PLAIN_BEGINNINGS or _is_plain(completion))
    ):
        return None
    text = f"prompt \0{prompt}\0completion \0{completion}"
    if may_hold_placeholder(text):
        return None
    return Identity(text, length, len(prompt) + _BEFORE_ANSWER)


def _quotes(raw: bytes) -> int:
    """How many quotes begin or end a text; 0 where that takes a closer look."""
    count = raw.count(b'"')
    if b"\\" not in raw:
        return count
    return 0 if b'\\\\"' in raw else count - raw.count(b'\\"')


_PLAIN_BEGINNINGS: Final = frozenset(map(chr, range(ord("!"), ord("~") + 1))) - {"["}


def _is_plain(text: str) -> bool:
    """Whether a text is neither empty nor perhaps a list of messages."""
    return is_filled(text) and not text.lstrip().startswith("[")


def _plain_conversation(raw: bytes) -> Identity | None:
    try:
        messages = _CONVERSATION.decode(raw).messages
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if _quotes(raw) != _CONVERSATION_QUOTES + _MESSAGE_QUOTES * len(messages):
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
    if may_hold_placeholder(text):
        return None
    length = sum([len(each.content) for each in messages])
    asked = "user" in [each.role for each in messages]
    answer_at = len(text) - len("assistant \0") - len(messages[-1].content) if asked else 0
    return Identity(text, length, answer_at)


PlainReader = Callable[[bytes], Identity | None]

READERS: Final[Mapping[str, PlainReader]] = MappingProxyType(
    {"prompt/completion": _plain_pair, "messages": _plain_conversation}
)
"""How to read a line if it is a plain record of a format: valid, and trained as it is written."""

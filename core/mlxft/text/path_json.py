"""JSON of messages that may hold paths which are not UTF-8, as msgspec alone refuses them."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """A value as JSON; undecodable bytes of a path become escaped surrogates."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()


def indented(value: Any, indent: int = 2) -> bytes:
    """`encode` on several lines, for people."""
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=indent)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), indent=indent).encode()


def decode(raw: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The value that `encode` wrote. Raises `msgspec.DecodeError`."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        try:
            found: T = msgspec.convert(json.loads(raw), decoder.type)
        except ValueError:
            raise error from None
        return found

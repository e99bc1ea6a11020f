"""The records of a JSON file one by one, however large it is: an array, or objects in a row."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Final

PIECE: Final = 1024 * 1024
"""Characters read at a time."""

LONGEST: Final = 256 * 1024 * 1024
"""Characters that a record may have; a longer one is a file that breaks somewhere."""

_LONGEST_SIGN: Final = 16
"""Characters at the end of a text that may belong to a value which is cut off."""

_DECODER: Final = json.JSONDecoder()
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_HOLDER: Final = re.compile(r'\s*\{\s*"(data|records|examples|rows|train)"\s*:\s*\[')
"""How an object begins that holds nothing but the array of the records."""

_ON_ONE_LINE: Final = str.maketrans("\r\n", "  ")
"""Within texts JSON has no line ends, so that those between are blanks."""


class JsonBreakError(ValueError):
    """Where and why a file can't be read on."""


def json_records(file: IO[bytes]) -> Iterator[bytes]:
    """The records, a line each; the file's own lines where it is JSON lines in disguise.

    Raises `JsonBreakError`.
    """
    text = _Text(file)
    held = _HOLDER.match(text.beginning)
    if held is not None:
        text.at = held.end()
        yield from _elements(text, "}")
    elif text.peek() == "[":
        text.at += 1
        yield from _elements(text, "")
    elif _is_spread(text.beginning):
        yield from _values(text)
    else:
        yield from text.pieces()


def _is_spread(beginning: str) -> bool:
    """Whether the first line begins an object that goes on below."""
    first, _, rest = beginning.lstrip().partition("\n")
    return first.startswith("{") and bool(rest) and not first.rstrip().endswith("}")


def _values(text: _Text) -> Iterator[bytes]:
    count = 0
    while text.peek():
        yield _line(text.value(count))
        count += 1


def _elements(text: _Text, after: str) -> Iterator[bytes]:
    """What stands between the brackets; `after` is what must follow them."""
    count = 0
    while (sign := text.peek()) != "]":
        yield _line(text.value(count))
        count += 1
        sign = text.peek()
        if sign == ",":
            text.at += 1
        elif sign != "]":
            what = "a comma is missing" if sign else "it isn't closed"
            raise JsonBreakError(f"the JSON array breaks after record {count} ({what})")
    text.at += 1
    for expected in (*after, ""):
        if text.peek() != expected:
            raise JsonBreakError("more than the array of records is in the file")
        text.at += 1


def _line(value: str) -> bytes:
    return value.translate(_ON_ONE_LINE).encode("utf-8", "surrogateescape") + b"\n"


class _Text:
    """A file's text from a place on; no more of it is held than a record needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        self._held = self._file.read(PIECE)
        self.at = 0

    @property
    def beginning(self) -> str:
        """What was read first."""
        return self._held

    def pieces(self) -> Iterator[bytes]:
        """All that is left."""
        while self._held:
            yield self._held[self.at :].encode("utf-8", "surrogateescape")
            self._held, self.at = self._file.read(PIECE), 0

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            found = _BLANKS.match(self._held, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(self._held) or not self._more():
                return self._held[self.at : self.at + 1]

    def value(self, before: int) -> str:
        """The JSON value that begins here, as it stands; so many were read before."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._held, self.at)
            except json.JSONDecodeError as error:
                if self._may_go_on(error) and self._more():
                    continue
                reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
                raise JsonBreakError(f"the JSON breaks in record {before + 1} ({reason})") from None
            except RecursionError:
                raise JsonBreakError(f"record {before + 1} is nested too deep") from None
            # A number near the end of what was read may go on.
            if end + _LONGEST_SIGN < len(self._held) or not self._more():
                value, self.at = self._held[self.at : end], end
                return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the value may only be cut off by the end of what is held."""
        at_end = error.pos >= len(self._held) - _LONGEST_SIGN
        is_open = at_end or error.msg.startswith("Unterminated string")
        return is_open and len(self._held) - self.at < LONGEST

    def _more(self) -> bool:
        """Read as much again as is held; False at the file's end."""
        rest = self._held[self.at :]
        piece = self._file.read(max(PIECE, len(rest)))
        if piece:
            self._held, self.at = rest + piece, 0
        return bool(piece)

"""Stream the records of a JSON file of any size: an array, or consecutive objects."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any, Final

PIECE: Final = 1024 * 1024
"""Characters read at a time."""

LONGEST: Final = 256 * 1024 * 1024
"""Most characters of a record; beyond that the file is taken to be broken."""

_LONGEST_SIGN: Final = 16
"""Characters at the end of a piece that may belong to a value cut off there."""

_DECODER: Final = json.JSONDecoder()
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_HOLDER: Final = re.compile(r'\s*\{\s*"(data|records|examples|rows)"\s*:\s*\[')
"""The beginning of an object that holds nothing but the array of records."""

_ON_ONE_LINE: Final = str.maketrans("\r\n", "  ")
"""JSON strings contain no raw line ends, so all others are whitespace."""


class JsonBreakError(ValueError):
    """Where and why a JSON file is broken, and the fix."""

    def __init__(self, problem: str, remedy: str = "fix it, or write one record per line") -> None:
        super().__init__(problem)
        self.remedy = remedy


def is_one_value(beginning: bytes) -> bool:
    """Whether a file is a JSON value on several lines or an array of records, not JSON Lines.

    A line of JSON Lines may be a list too: the messages of one conversation.
    """
    first = beginning.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")[0].strip()
    if first in (b"[", b"{"):
        return True
    if not first.startswith(b"["):
        return False
    rest = first[1:].decode(errors="replace").lstrip()
    try:
        element, _ = _DECODER.raw_decode(rest)
    except (json.JSONDecodeError, RecursionError):
        # The first element is longer than what was read, or broken.
        return bool(_BEGUN_RECORD.match(rest))
    if isinstance(element, list):
        element = {} if element and isinstance(element[0], dict) else None
    return isinstance(element, dict) and element.keys().isdisjoint(("role", "from"))


_BEGUN_RECORD: Final = re.compile(r'\{\s*"(?!(?:role|from|content|value)")')


def json_records(file: IO[bytes]) -> Iterator[bytes]:
    """The records, one per line; the file's own lines if it is really JSON Lines.

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
    elif _spans_lines(text.beginning):
        yield from _values(text)
    else:
        yield from text.pieces()


def _spans_lines(beginning: str) -> bool:
    """Whether the first line begins an object that continues below, or is all there is."""
    first, _, rest = beginning.lstrip().partition("\n")
    return first.startswith("{") and (not rest.strip() or not first.rstrip().endswith("}"))


def _values(text: _Text) -> Iterator[bytes]:
    first = text.value(0) if text.peek() else ""
    if first and not text.peek():
        yield from _rows_in(first)
        return
    count = 1
    if first:
        yield _line(first)
    while text.peek():
        yield _line(text.value(count))
        count += 1


_HOLDER_NAMES: Final = """
data records examples rows items samples entries instances dataset results questions train
"""
_HOLDERS: Final = _HOLDER_NAMES.split()
"""Keys under which an object may hold all records of a file."""

_SPLITS: Final = frozenset(["train", "valid", "validation", "val", "dev", "test", "eval"])


def _rows_in(only: str) -> Iterator[bytes]:
    """The records in a file's only value: under a key of it, as its columns, or itself."""
    value = json.loads(only)
    lists = {key: each for key, each in value.items() if isinstance(each, list)}
    if len(_SPLITS & lists.keys()) > 1:
        names = ", ".join(sorted(_SPLITS & lists.keys()))
        raise JsonBreakError(
            f"the file holds several splits ({names})", "write each of them to a file of its own"
        )
    held = next((key for key in _HOLDERS if lists.get(key)), None)
    if held is not None and all(isinstance(each, dict) for each in lists[held]):
        yield from (_line(json.dumps(each)) for each in lists[held])
    elif _are_named(value):
        yield from (_line(json.dumps(each)) for each in value.values())
    elif _are_columns(value):
        rows = zip(*value.values(), strict=True)
        yield from (_line(json.dumps(dict(zip(value, row, strict=True)))) for row in rows)
    else:
        yield _line(only)


def _are_named(value: dict[str, Any]) -> bool:
    """Whether an object holds a record under each name, all with the same keys."""
    records = list(value.values())
    return len(records) > 1 and all(
        isinstance(each, dict) and each and each.keys() == records[0].keys() for each in records
    )


def _are_columns(value: dict[str, Any]) -> bool:
    """Whether an object holds a column of texts or numbers under each key."""
    columns = list(value.values())
    return len(columns) > 1 and all(
        isinstance(column, list)
        and len(column) == len(columns[0]) > 0
        and not any(isinstance(each, list | dict) for each in column)
        for column in columns
    )


def _elements(text: _Text, after: str) -> Iterator[bytes]:
    """The elements of an array; `after` must follow its closing bracket."""
    count = 0
    while (sign := text.peek()) != "]":
        yield _line(text.value(count))
        count += 1
        sign = text.peek()
        if sign == ",":
            text.at += 1
        elif sign != "]":
            what = "a comma is missing" if sign else "it is never closed"
            raise JsonBreakError(f"the JSON array is broken after record {count} ({what})")
    text.at += 1
    if after:
        _skip_members(text)
    for expected in (*after, ""):
        if text.peek() != expected:
            raise JsonBreakError("the file holds more than one array of records")
        text.at += 1


def _skip_members(text: _Text) -> None:
    """The rest of an object's keys and values, none of which may hold records."""
    while text.peek() == ",":
        text.at += 1
        if text.peek() == '"':
            text.value(0)
        if text.peek() == ":":
            text.at += 1
        if text.peek() and re.match(r"\[\s*\{", text.value(0)):
            raise JsonBreakError("the file holds more than one array of records")


def _line(value: str) -> bytes:
    return value.translate(_ON_ONE_LINE).encode("utf-8", "surrogateescape") + b"\n"


class _Text:
    """A file's text from the current position; holds no more of it than a record needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        self._held = self._file.read(PIECE)
        self.at = 0

    @property
    def beginning(self) -> str:
        """The first piece read."""
        return self._held

    def pieces(self) -> Iterator[bytes]:
        """The rest of the file."""
        while self._held:
            yield self._held[self.at :].encode("utf-8", "surrogateescape")
            self._held, self.at = self._file.read(PIECE), 0

    def peek(self) -> str:
        """The next character that is not whitespace; empty at the end."""
        while True:
            found = _BLANKS.match(self._held, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(self._held) or not self._more():
                return self._held[self.at : self.at + 1]

    def value(self, before: int) -> str:
        """The text of the JSON value that begins here; `before` values were read already."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._held, self.at)
            except json.JSONDecodeError as error:
                if self._may_be_cut_off(error) and self._more():
                    continue
                reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
                raise JsonBreakError(f"invalid JSON in record {before + 1} ({reason})") from None
            except RecursionError:
                raise JsonBreakError(f"record {before + 1} is nested too deep") from None
            # A number near the end of the piece may be cut off.
            if end + _LONGEST_SIGN < len(self._held) or not self._more():
                value, self.at = self._held[self.at : end], end
                return value

    def _may_be_cut_off(self, error: json.JSONDecodeError) -> bool:
        """Whether the value may merely be cut off by the end of the piece."""
        at_end = error.pos >= len(self._held) - _LONGEST_SIGN
        is_open = at_end or error.msg.startswith("Unterminated string")
        return is_open and len(self._held) - self.at < LONGEST

    def _more(self) -> bool:
        """Double the text held; False at the end of the file."""
        rest = self._held[self.at :]
        piece = self._file.read(max(PIECE, len(rest)))
        if piece:
            self._held, self.at = rest + piece, 0
        return bool(piece)

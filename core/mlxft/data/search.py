"""Finds text in a file of records of any size, in a process of its own: `python -m` this module.

An expression can take for ever on a single record, and holds the interpreter while it does; a
process can be ended.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mlxft.data.containers import as_lines
from mlxft.errors import DataError

PIECE: Final = 4 * 1024 * 1024
"""Bytes read at a time, cut at the last whole line."""

MOST_FOUND: Final = 1_000_000
"""Places kept; a search that finds more ends there."""

TELL_SECONDS: Final = 0.1
_RAW: Final = re.compile(r"[ !#-.0-\[\]-~]+")
"""Text that JSON writes as it is: neither quotes, slashes, controls nor beyond ASCII."""


class Query(msgspec.Struct, frozen=True):
    """What to look for in the texts of a record; small letters find capitals too."""

    text: str
    is_expression: bool = False

    def pattern(self) -> re.Pattern[str]:
        """The query as an expression. Raises `DataError` where it is none."""
        case = re.IGNORECASE if self.text == self.text.lower() else re.NOFLAG
        try:
            return re.compile(self.text if self.is_expression else re.escape(self.text), case)
        except (re.error, RecursionError, OverflowError) as error:
            raise DataError(
                f"{self.text}: this is no regular expression ({error}); correct it or search for "
                "plain text."
            ) from None


class Order(msgspec.Struct, frozen=True):
    """A query and where it begins: the first byte of a line; it goes round to there."""

    path: str
    query: Query
    start: int


class Found(msgspec.Struct, frozen=True):
    """Bytes where found records begin, and how many bytes were searched so far."""

    offsets: tuple[int, ...]
    searched: int


def search(order: Order) -> Iterator[Found]:
    """Every record found, by pieces of the file: from `start` to the end, then what is before."""
    pattern = order.query.pattern()
    needle = _needle(order.query)
    path = as_lines(Path(order.path))
    size = path.stat().st_size
    searched = 0
    for start, end in ((order.start, size), (0, min(order.start, size))):
        for offset, piece in _pieces(path, start, end):
            searched += len(piece)
            offsets = () if _is_without(needle, piece) else _found(pattern, piece, offset)
            yield Found(tuple(offsets), searched)


def _needle(query: Query) -> bytes | None:
    """Small letters that a found record has in its raw line, unless that writes them as codes."""
    plain = not query.is_expression and _RAW.fullmatch(query.text)
    return query.text.lower().encode() if plain else None


def _is_without(needle: bytes | None, piece: bytes) -> bool:
    """Whether a whole piece can be passed over without parsing it."""
    return needle is not None and needle not in piece.lower() and b"\\u00" not in piece


def _pieces(path: Path, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines, as many as a piece holds and at least one, with their first byte."""
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            piece = file.read(min(PIECE, end - start))
            piece += file.readline() if not piece.endswith(b"\n") else b""
            if not piece:
                return
            yield start, piece
            start += len(piece)


def _found(pattern: re.Pattern[str], piece: bytes, offset: int) -> Iterator[int]:
    for raw in piece.splitlines(keepends=True) if b"\r" not in piece else _lines(piece):
        if pattern.search(text_of(raw)):
            yield offset
        offset += len(raw)


def _lines(piece: bytes) -> Iterator[bytes]:
    """Lines that end at newlines only; `splitlines` ends them at carriage returns too."""
    start = 0
    while start < len(piece):
        end = piece.find(b"\n", start) + 1 or len(piece)
        yield piece[start:end]
        start = end


def text_of(raw: bytes) -> str:
    """All texts of a record, a line each; what is no JSON is taken as it stands."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw.decode("utf-8", "replace")
    return "\n".join(_texts(value))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)


def main() -> None:
    """Follow the order that stdin holds; each line of stdout is a `Found`."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    os.nice(5)  # The viewer's keys come first.
    told, waiting, count, searched = time.monotonic(), list[int](), 0, 0
    for found in search(order):
        waiting.extend(found.offsets)
        count, searched = count + len(found.offsets), found.searched
        if waiting or time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            _say(Found(tuple(waiting), searched))
            waiting = []
        if count >= MOST_FOUND:
            break
    _say(Found(tuple(waiting), searched))


def _say(found: Found) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

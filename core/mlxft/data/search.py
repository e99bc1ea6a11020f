"""Search a file of records of any size, in a child process: `python -m` this module.

A regular expression can take forever on a single record while holding the interpreter lock; a
process can be killed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mlxft.data.child_process import serve
from mlxft.data.containers import as_lines
from mlxft.errors import DataError

PIECE: Final = 4 * 1024 * 1024
"""Bytes searched at a time, up to the end of a line."""

MAX_HITS: Final = 1_000_000
"""A search ends after this many hits."""

REPORT_SECONDS: Final = 0.1
_RAW: Final = re.compile(r"[ !#-.0-\[\]-~]+")
"""Text that JSON writes unescaped: ASCII without quotes, slashes and control characters."""


class Query(msgspec.Struct, frozen=True):
    """What to find in the texts of a record; lower case also matches capitals."""

    text: str
    is_expression: bool = False

    def pattern(self) -> re.Pattern[str]:
        """The query as a regular expression. Raises `DataError` if invalid."""
        case = re.IGNORECASE if self.text == self.text.lower() else re.NOFLAG
        try:
            return re.compile(self.text if self.is_expression else re.escape(self.text), case)
        except (re.error, RecursionError, OverflowError) as error:
            raise DataError(
                f"{self.text}: invalid regular expression ({error}); fix it or search for text."
            ) from None


class SearchRequest(msgspec.Struct, frozen=True):
    """A query and the first byte of the line to start from; the search wraps around."""

    path: str
    query: Query
    start: int


class SearchHits(msgspec.Struct, frozen=True):
    """First bytes of matching records, and the bytes searched so far."""

    offsets: tuple[int, ...]
    searched: int


def search(request: SearchRequest) -> Iterator[SearchHits]:
    """Matching records, piece by piece: from `start` to the end, then from the beginning."""
    pattern = request.query.pattern()
    needle = _needle(request.query)
    path = as_lines(Path(request.path))
    size = path.stat().st_size
    searched = 0
    for start, end in ((request.start, size), (0, min(request.start, size))):
        for offset, piece in _pieces(path, start, end):
            searched += len(piece)
            offsets = () if _is_without(needle, piece) else _found(pattern, piece, offset)
            yield SearchHits(tuple(offsets), searched)


def _needle(query: Query) -> bytes | None:
    """Lower-case text that a matching line contains, unless it uses escapes."""
    plain = not query.is_expression and _RAW.fullmatch(query.text)
    return query.text.lower().encode() if plain else None


def _is_without(needle: bytes | None, piece: bytes) -> bool:
    """Whether a piece can be skipped without parsing it."""
    return needle is not None and needle not in piece.lower() and b"\\u00" not in piece


def _pieces(path: Path, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of whole lines, each with the offset of its first byte."""
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
    """Lines split at newlines only, unlike `splitlines`."""
    start = 0
    while start < len(piece):
        end = piece.find(b"\n", start) + 1 or len(piece)
        yield piece[start:end]
        start = end


def text_of(raw: bytes) -> str:
    """All texts of a record, one per line; a line that is not JSON is returned as it is."""
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
    """Search the requested file, sending hits."""
    serve(SearchRequest, _search_requested)


def _search_requested(request: SearchRequest, send: Callable[[SearchHits], object]) -> None:
    reported, waiting, count, searched = time.monotonic(), list[int](), 0, 0
    for hits in search(request):
        waiting.extend(hits.offsets)
        count, searched = count + len(hits.offsets), hits.searched
        if waiting or time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            send(SearchHits(tuple(waiting), searched))
            waiting = []
        if count >= MAX_HITS:
            break
    send(SearchHits(tuple(waiting), searched))


if __name__ == "__main__":
    main()

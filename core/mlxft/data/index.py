"""An index of line offsets for files of any size, built incrementally at half a byte per line."""

from __future__ import annotations

import bisect
import os
import weakref
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import numpy as np

from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.containers import as_lines
from mlxft.data.validation import RecordLine, read_line
from mlxft.errors import DataError

FIRST_PIECE: Final = 64 * 1024
PIECE: Final = 4 * 1024 * 1024
"""Bytes read at a time; the first piece is small so that the first lines appear at once."""

SPACING: Final = 16
"""Lines between stored offsets; those in between are found by reading."""

_STRIDE: Final = 32 * 1024
"""Bytes read at a time when searching for the end of a line."""


class Span(NamedTuple):
    """A line's first byte, and the byte after its newline."""

    start: int
    end: int


class LineIndex:
    """Random access to the lines of a file of records, while it is being indexed.

    One thread drives `build`; any thread may read the lines found so far. The file's size is fixed
    when it is opened; it is closed by `close` or with the last reference.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises `DataError` if it can't be read."""
        self.path = path
        self.indexed_bytes = 0
        self._count = 0
        self._marks: array[int] = array("Q", [0])
        """The start of every `SPACING`th line; the last may be the end of the file."""
        self._found_end = 0
        """The end of the last line found."""
        try:
            with as_lines(path).open("rb") as file:  # fails for a folder, unlike os.open
                self._file = os.dup(file.fileno())
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            raise DataError(
                f"{path}: the records can't be read ({reason}); check the data folder."
            ) from None
        self._closing = weakref.finalize(self, os.close, self._file)
        self.size = os.fstat(self._file).st_size

    def __enter__(self) -> LineIndex:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Lines found so far."""
        return self._count

    @property
    def complete(self) -> bool:
        """Whether all lines are found."""
        return self.indexed_bytes >= self.size

    def build(self) -> Iterator[int]:
        """Find all lines, yielding the bytes done after each piece; can be paused and resumed."""
        while not self.complete:
            wanted = PIECE if self.indexed_bytes else FIRST_PIECE
            piece = self.read(self.indexed_bytes, wanted)
            if not piece:
                self.size = self.indexed_bytes
            else:
                self._take(np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n")))
                self.indexed_bytes += len(piece)
            if self.complete and self.size > self._found_end:
                self._take(np.array([self.size - self.indexed_bytes - 1], np.int64))
            yield self.indexed_bytes

    def _take(self, newlines: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Add the newlines found in the piece that begins at `indexed_bytes`."""
        if not len(newlines):
            return
        to_mark = SPACING - self._count % SPACING - 1
        marks = newlines[to_mark::SPACING].astype(np.uint64) + np.uint64(self.indexed_bytes + 1)
        # Update the marks before the count: concurrent readers rely on the count.
        self._marks.frombytes(marks.tobytes())
        self._found_end = self.indexed_bytes + int(newlines[-1]) + 1
        self._count += len(newlines)

    def read(self, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start`."""
        return os.pread(self._file, max(0, min(size, self.size - start)), start)

    def span(self, position: int) -> Span:
        """The byte range of a line; position counts from 0.

        Raises `IndexError` for a line that is not found yet or doesn't exist.
        """
        if not 0 <= position < self._count:
            raise IndexError(position)
        block, wanted = divmod(position, SPACING)
        ends = self._line_ends(self._marks[block])
        start = self._marks[block]
        for _ in range(wanted):
            start = next(ends)
        return Span(start, next(ends))

    def _line_ends(self, start: int) -> Iterator[int]:
        """The ends of the lines from `start`, where a line begins."""
        at = start
        while piece := self.read(at, _STRIDE):
            found = piece.find(b"\n")
            while found >= 0:
                yield at + found + 1
                found = piece.find(b"\n", found + 1)
            at += len(piece)
        yield self.size

    def position_of(self, offset: int) -> int | None:
        """The line that contains a byte; None beyond what is indexed."""
        if not 0 <= offset < self._found_end:
            return None
        block = bisect.bisect_right(self._marks, offset, hi=-(-self._count // SPACING)) - 1
        start = self._marks[block]
        return block * SPACING + self._newlines(start, offset)

    def _newlines(self, start: int, end: int) -> int:
        """How many lines end between two bytes."""
        return sum(
            self.read(left, right - left).count(b"\n")
            for left, right in pairwise((*range(start, end, PIECE), end))
        )

    def raw(self, position: int) -> bytes:
        """A line's bytes with its newline. Raises `IndexError` as `span` does."""
        span = self.span(position)
        return self.read(span.start, span.end - span.start)

    def line(self, position: int, columns: Columns = AS_NAMED) -> RecordLine:
        """A line's record and faults; its number is the position plus one. Raises `IndexError`."""
        return read_line(self.raw(position), str(self.path), position + 1, columns)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._closing()


def records_in(file: Path) -> int:
    """The number of records in a JSON lines file. Raises `DataError`."""
    with LineIndex(file) as index:
        for _ in index.build():
            pass
        return len(index)

"""Random access to the lines of a file of any size, in eight bytes a line."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np

from mlxft.data.validation import Line, read_line
from mlxft.errors import DataError

FIRST_PIECE: Final = 64 * 1024
PIECE: Final = 4 * 1024 * 1024
"""Bytes searched at a time; the first piece is small so that the first lines are there at once."""


class LineIndex:
    """Where each line of a JSONL file ends, found piece by piece.

    One thread drives `build`; any thread may meanwhile read the lines found so far. The file is
    taken as long as it was when opened, and is released by `close` or with the last reference.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises `DataError` if it can't be read."""
        self.path = path
        self.indexed_bytes = 0
        self._ends: array[int] = array("Q")
        try:
            with path.open("rb") as file:  # refuses a folder, which os.open takes
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
        return len(self._ends)

    @property
    def complete(self) -> bool:
        """Whether every line is found."""
        return self.indexed_bytes >= self.size

    def build(self) -> Iterator[int]:
        """Find all lines, yielding the bytes done after each piece; can be left and taken up."""
        while not self.complete:
            wanted = PIECE if self.indexed_bytes else FIRST_PIECE
            piece = os.pread(
                self._file, min(wanted, self.size - self.indexed_bytes), self.indexed_bytes
            )
            if not piece:
                self.size = self.indexed_bytes
            else:
                newlines = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n"))
                ends = newlines.astype(np.uint64) + np.uint64(self.indexed_bytes + 1)
                self._ends.frombytes(ends.tobytes())
                self.indexed_bytes += len(piece)
            if self.complete and self.size > (self._ends[-1] if self._ends else 0):
                self._ends.append(self.size)
            yield self.indexed_bytes

    def raw(self, position: int) -> bytes:
        """A line's bytes with its newline; position counts from 0.

        Raises `IndexError` for a line that is not found yet or that the file doesn't have.
        """
        if not 0 <= position < len(self._ends):
            raise IndexError(position)
        start = self._ends[position - 1] if position else 0
        return os.pread(self._file, self._ends[position] - start, start)

    def line(self, position: int) -> Line:
        """A line's record and faults; its number is the position and one. Raises `IndexError`."""
        return read_line(self.raw(position), str(self.path), position + 1)

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        self._closing()

"""The lines of a file by position, estimated until the whole file is indexed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mlxft.data.index import LineIndex, Span

SAMPLES: Final = 16
SAMPLE_BYTES: Final = 32 * 1024
"""Samples read across a file to estimate its number of lines."""

REACH: Final = 512
"""Lines this close to known ones are found by walking, others by their share of the file."""

_STRIDE: Final = 64 * 1024


class LinePlaces:
    """All lines of a file, about `count` of them until the index is complete.

    Positions already indexed at construction are exact. Later ones are counted from the end of the
    file, or from a byte at their share of it, so that neighbours stay neighbours and the last line
    is last.
    """

    def __init__(self, index: LineIndex) -> None:
        self.index = index
        self.exact = index.complete
        """Whether `count` and all positions are exact."""
        self._known = len(index)
        self._known_end = index.span(self._known - 1).end if self._known else 0
        self._near: list[Span] = []
        """Consecutive lines beyond the index."""
        self._first = 0
        """The estimated position of the first of them."""
        self.count = self._known if self.exact else self._estimate()

    def is_exact(self, position: int) -> bool:
        """Whether a line's position is exact."""
        return position < self._known

    def span(self, position: int) -> Span:
        """The byte range of the line. Raises `IndexError` beyond `count`."""
        if position < self._known:
            return self.index.span(position)
        if not 0 <= position < self.count:
            raise IndexError(position)
        near = range(self._first - REACH, self._first + len(self._near) + REACH)
        if not self._near or position not in near:
            self._begin_at(position)
        while position < self._first and self._extend_back():
            pass
        while position >= self._first + len(self._near) and self._extend_forward():
            pass
        at = min(max(position - self._first, 0), len(self._near) - 1)
        return self._near[at]

    def position_of(self, offset: int) -> int:
        """The best known position of the line that contains a byte."""
        if offset < self._known_end and (known := self.index.position_of(offset)) is not None:
            return known
        for at, span in enumerate(self._near):
            if span.start <= offset < span.end:
                return self._first + at
        position = max(self._known, self._share(offset))
        self._first, self._near = position, [self._around(offset)]
        return position

    def _estimate(self) -> int:
        """Lines found plus those expected in the rest of the file, from samples of it."""
        rest = self.index.size - self._known_end
        if not rest:
            return self._known
        step = max(1, rest // SAMPLES)
        pieces = [
            self.index.read(start, min(step, SAMPLE_BYTES))
            for start in range(self._known_end, self.index.size, step)
        ]
        newlines = sum(piece.count(b"\n") for piece in pieces)
        density = newlines / max(1, sum(map(len, pieces)))
        return self._known + max(1, round(rest * density))

    def _share(self, offset: int) -> int:
        """The estimated position of a byte in the rest of the file."""
        rest = max(1, self.index.size - self._known_end)
        share = (offset - self._known_end) * (self.count - self._known) // rest
        return min(self._known + share, self.count - 1)

    def _begin_at(self, position: int) -> None:
        if position >= self.count - REACH:
            self._first, self._near = self.count - 1, [self._around(self.index.size - 1)]
            return
        rest = self.index.size - self._known_end
        share = (position - self._known) * rest // max(1, self.count - self._known)
        self._first, self._near = position, [self._around(self._known_end + share)]

    def _around(self, offset: int) -> Span:
        """The line that contains a byte."""
        return Span(self._start_before(offset), self._end_after(offset))

    def _extend_back(self) -> bool:
        start = self._near[0].start
        if start == 0:
            return False
        self._near.insert(0, Span(self._start_before(start - 1), start))
        self._first -= 1
        return True

    def _extend_forward(self) -> bool:
        end = self._near[-1].end
        if end >= self.index.size:
            return False
        self._near.append(Span(end, self._end_after(end)))
        return True

    def _start_before(self, offset: int) -> int:
        """The first byte of the line that contains this byte."""
        for start, piece in self._pieces_back(offset):
            found = piece.rfind(b"\n")
            if found >= 0:
                return start + found + 1
        return 0

    def _pieces_back(self, end: int) -> Iterator[tuple[int, bytes]]:
        while end > 0:
            start = max(0, end - _STRIDE)
            yield start, self.index.read(start, end - start)
            end = start

    def _end_after(self, offset: int) -> int:
        """The byte after the line that contains this byte."""
        while piece := self.index.read(offset, _STRIDE):
            found = piece.find(b"\n")
            if found >= 0:
                return offset + found + 1
            offset += len(piece)
        return self.index.size

"""The hits of a search so far, and which hit comes next."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal

from mlxft.data.child_process import ChildProcess
from mlxft.data.search import Query, SearchHits, SearchRequest
from mlxft.errors import DataError


class Findings:
    """Matching records by their first byte, in the order of a search that wraps around.

    A search starts at `origin`, runs to the end of the file, and then from the beginning to
    `origin`.
    """

    def __init__(self, path: Path, query: Query, origin: int, size: int) -> None:
        self.path = path
        self.query = query
        self.complete = False
        self._origin = origin
        self._size = size
        self._searched = 0
        self._below: array[int] = array("Q")
        """Hits from `origin` to the end, in file order."""
        self._above: array[int] = array("Q")
        """Hits before `origin`, in file order."""

    async def search(self) -> AsyncGenerator[None, None]:
        """Search in a child process, pausing after each batch of hits; closing this kills it.

        Raises `DataError` if the search fails, for example because the file is gone.
        """
        request = SearchRequest(str(self.path), self.query, self._origin)
        with ChildProcess("mlxft.data.search", request, SearchHits) as child:
            async for hits in child:
                self.add(hits)
                yield
            if child.failed:
                raise DataError(f"{self.path}: the search failed; check that the file exists.")
        self.complete = True
        yield

    def add(self, hits: SearchHits) -> None:
        """Add the hits of the next piece."""
        self._searched = hits.searched
        for offset in hits.offsets:
            (self._below if offset >= self._origin else self._above).append(offset)

    @property
    def share(self) -> float:
        """The share of the file searched so far, 0 to 1."""
        return 1.0 if self.complete else min(1.0, self._searched / max(1, self._size))

    def __len__(self) -> int:
        return len(self._below) + len(self._above)

    def rank(self, offset: int) -> int | None:
        """A hit's number in file order, from 1; None for other records or while unknown."""
        half = self._below if offset >= self._origin else self._above
        at = bisect_left(half, offset)
        if not self.complete or half[at : at + 1] != array("Q", [offset]):
            return None
        return at + 1 + (len(self._above) if half is self._below else 0)

    def neighbour(self, offset: int, direction: Literal[-1, 1]) -> int | None:
        """The next or previous hit from a byte, wrapping around; None while unknown or for none."""
        return self._after(offset) if direction > 0 else self._before(offset)

    def _after(self, offset: int) -> int | None:
        below, above = self._below, self._above
        first_below = _at(below, 0) if self.complete else None
        if offset >= self._origin:
            # The part above is only searched once everything below is.
            return _first(_at(below, bisect_right(below, offset)), _at(above, 0), first_below)
        first_above = _at(above, 0) if self.complete else None
        return _first(_at(above, bisect_right(above, offset)), first_below, first_above)

    def _before(self, offset: int) -> int | None:
        below, above = self._below, self._above
        last = (_at(above, len(above) - 1), _at(below, len(below) - 1))
        if offset > self._origin:
            near = _at(below, bisect_left(below, offset) - 1)
            return _first(near, *(last if self.complete else ()))
        if not self.complete:
            return None
        return _first(_at(above, bisect_left(above, offset) - 1), *reversed(last))


def _at(offsets: array[int], index: int) -> int | None:
    return offsets[index] if 0 <= index < len(offsets) else None


def _first(*candidates: int | None) -> int | None:
    return next((each for each in candidates if each is not None), None)

"""What a search has found so far, and which found record comes next."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from array import array
from asyncio.subprocess import DEVNULL, PIPE
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final, Literal

import msgspec

from mlxft.data.search import Found, Order, Query
from mlxft.errors import DataError

LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes that one telling of findings may take: as many as a piece has lines."""


class Findings:
    """Found records by their first byte, in the order that a search goes round a file.

    A search begins at `origin`, goes to the end of the file, and from its beginning to `origin`.
    """

    def __init__(self, path: Path, query: Query, origin: int, size: int) -> None:
        self.path = path
        self.query = query
        self.complete = False
        self._origin = origin
        self._size = size
        self._searched = 0
        self._below: array[int] = array("Q")
        self._above: array[int] = array("Q")
        """Those from `origin` on, and those before it, each in the order of the file."""

    async def search(self) -> AsyncGenerator[None, None]:
        """Let a process search, pausing after each of its findings; it ends with this iterator.

        Raises `DataError` where it can't, as when the file has gone.
        """
        process = await asyncio.create_subprocess_exec(
            # -P: modules in the current folder must not stand in for installed ones.
            *(sys.executable, "-P", "-m", "mlxft.data.search"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=LONGEST_LINE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            order = Order(str(self.path), self.query, self._origin)
            process.stdin.write(msgspec.json.encode(order))
            process.stdin.close()
            async for line in process.stdout:
                self.add(msgspec.json.decode(line, type=Found))
                yield
            if await process.wait():
                raise DataError(f"{self.path}: it can't be searched; check that it is still there.")
            self.complete = True
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def add(self, found: Found) -> None:
        """Take the next piece's findings."""
        self._searched = found.searched
        for offset in found.offsets:
            (self._below if offset >= self._origin else self._above).append(offset)

    @property
    def share(self) -> float:
        """How much of the file was searched, of 1."""
        return 1.0 if self.complete else min(1.0, self._searched / max(1, self._size))

    def __len__(self) -> int:
        return len(self._below) + len(self._above)

    def rank(self, offset: int) -> int | None:
        """A found record's place among all, from 1; None for another one, or while not known."""
        half = self._below if offset >= self._origin else self._above
        at = bisect_left(half, offset)
        if not self.complete or half[at : at + 1] != array("Q", [offset]):
            return None
        return at + 1 + (len(self._above) if half is self._below else 0)

    def neighbour(self, offset: int, direction: Literal[-1, 1]) -> int | None:
        """The found record after or before a byte, going round at the ends.

        None while it can't be told yet, and where nothing was found.
        """
        return self._after(offset) if direction > 0 else self._before(offset)

    def _after(self, offset: int) -> int | None:
        below, above = self._below, self._above
        first_below = _at(below, 0) if self.complete else None
        if offset >= self._origin:
            # Those above are only searched when all below is.
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

"""Records that are nearly the same, found among a million in little memory.

A record's words, three by three, are hashed into bins, and the least hash of each bin is kept: two
records share as many of those as their sets of triples overlap (one permutation hashing, Li, Owen
and Zhang 2012). Records that share a band of four bins are compared (Broder 1997).
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS: Final = 32
BANDS: Final = 8
TOGETHER: Final = 512
"""Records sketched at once."""

LONGEST: Final = 20_000
"""Characters of a record that are looked at."""

ALIKE: Final = 26
"""Bins that near duplicates share: about four fifths of their triples of words."""

FEWEST_TOKENS: Final = 16
"""Shorter records have too few triples to tell templates from near duplicates."""

NEIGHBOURS: Final = 4
"""How many of the records before it in a band one is compared with."""

_COMPARED: Final = 65_536
"""Pairs compared at once."""

_Wide = NDArray[np.uint64]
_Positions = NDArray[np.int64]
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_EMPTY: Final = np.uint64(0xFFFFFFFF)


class Pairs(NamedTuple):
    """Positions of records that are nearly the same, the earlier ones first."""

    first: _Positions
    second: _Positions


class Sketches:
    """What is kept of records to find their likes: 64 bytes each."""

    def __init__(self) -> None:
        self._marks = array("B")
        self._bands = array("I")
        self._waiting: list[NDArray[np.uint32]] = []

    def add(self, text: str) -> None:
        """Take the next record."""
        self._waiting.append(_tokens(text[:LONGEST]))
        if len(self._waiting) >= TOGETHER:
            self._sketch()

    def _sketch(self) -> None:
        if not self._waiting:
            return
        least = _least_of_bins(self._waiting)
        bands = least.astype(np.uint64).reshape(len(least), BANDS, -1)
        mixed = bands[:, :, 0]
        for row in range(1, bands.shape[2]):
            mixed = (mixed * _MULTIPLIER) ^ (mixed >> np.uint64(29)) ^ bands[:, :, row]
        mixed = (mixed * _MULTIPLIER) >> np.uint64(32)
        few = np.array([len(each) < FEWEST_TOKENS for each in self._waiting])
        mixed[few] = 0
        self._marks.frombytes(least.astype(np.uint8).tobytes())
        self._bands.frombytes(mixed.astype(np.uint32).tobytes())
        self._waiting = []

    @property
    def bands(self) -> NDArray[np.uint32]:
        """(records, BANDS); equal where four bins are, 0 for a record that is too short."""
        self._sketch()
        return np.frombuffer(self._bands, np.uint32).reshape(-1, BANDS)

    @property
    def marks(self) -> NDArray[np.uint8]:
        """(records, BINS): the last byte of each bin's least hash."""
        self._sketch()
        return np.frombuffer(self._marks, np.uint8).reshape(-1, BINS)


def _tokens(text: str) -> NDArray[np.uint32]:
    """Hashes of the words; of the characters where a script puts no spaces between words."""
    words = text.lower().encode("utf-8", "replace").split()
    if len(words) * 24 < len(text):
        return np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    return np.fromiter(map(zlib.crc32, words), np.uint32, len(words))


def _least_of_bins(records: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """(records, BINS): the least hash in each bin; an empty bin has that of the next full one."""
    lengths = np.array([len(each) for each in records])
    owners = np.repeat(np.arange(len(records)), lengths)
    tokens = np.concatenate(records).astype(np.uint64)
    hashes = _triples(tokens)
    # The last two of a record have words of the next one in them.
    inside = np.ones(len(tokens), bool)
    ends = np.cumsum(lengths)
    for back in (1, 2):
        at = ends[lengths >= back] - back
        inside[at] = False
    kept = hashes[inside]
    slots = owners[inside] * BINS + (kept >> np.uint64(59)).astype(np.int64)
    values = (kept >> np.uint64(20)) & _EMPTY
    keys = np.sort((slots.astype(np.uint64) << np.uint64(32)) | values)
    first = np.ones(len(keys), bool)
    first[1:] = (keys[1:] >> np.uint64(32)) != (keys[:-1] >> np.uint64(32))
    least = np.full(len(records) * BINS, _EMPTY, np.uint64)
    found = keys[first]
    least[(found >> np.uint64(32)).astype(np.int64)] = found & _EMPTY
    return _filled(least.reshape(len(records), BINS)).astype(np.uint32)


def _triples(tokens: _Wide) -> _Wide:
    """A hash of each token with the two after it."""
    after, last = np.roll(tokens, -1), np.roll(tokens, -2)
    mixed = (tokens * _MULTIPLIER) ^ (after + np.uint64(0xD1B54A32D192ED03))
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MULTIPLIER
    mixed = (mixed ^ last) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: _Wide = mixed ^ (mixed >> np.uint64(31))
    return spread


def _filled(least: _Wide) -> _Wide:
    for _ in range(BINS):
        empty = least == _EMPTY
        if not empty.any():
            break
        least = np.where(empty, np.roll(least, -1, axis=1), least)
    return least


def near_pairs(
    sketches: Sketches, left_out: NDArray[np.bool_], alike: int = ALIKE
) -> Iterator[Pairs]:
    """Pairs of records that share so many bins, of those that are not left out; some repeatedly.

    Each record is compared with the nearest ones of its band only, so that a set of look-alikes
    takes no more time than another.
    """
    bands, marks = sketches.bands, sketches.marks
    kept = np.flatnonzero(~left_out & bands.any(axis=1))
    for band in range(BANDS):
        key = bands[kept, band]
        order = kept[np.lexsort((kept, bands[kept, (band + 1) % BANDS], key))]
        ordered = bands[order, band]
        for apart in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            same = np.flatnonzero(ordered[apart:] == ordered[:-apart])
            yield from _alike(marks, order[same], order[same + apart], alike)


def _alike(
    marks: NDArray[np.uint8], left: _Positions, right: _Positions, alike: int
) -> Iterator[Pairs]:
    for start in range(0, len(left), _COMPARED):
        one, other = left[start : start + _COMPARED], right[start : start + _COMPARED]
        found = np.count_nonzero(marks[one] == marks[other], axis=1) >= alike
        yield Pairs(np.minimum(one, other)[found], np.maximum(one, other)[found])


def joined(first: Sketches, second: Sketches) -> Sketches:
    """The records of both, one after the other."""
    both = Sketches()
    for each in (first, second):
        both._marks.frombytes(each.marks.tobytes())
        both._bands.frombytes(each.bands.tobytes())
    return both

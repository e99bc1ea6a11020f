"""Records that are nearly the same, found among a million in little memory.

The pieces that begin at a record's words are hashed into bins, and the least hash of each bin is
kept: two records share as many of those as their sets of pieces overlap (one permutation hashing,
Li, Owen and Zhang 2012). Records that share a band of four bins are compared (Broder 1997).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS: Final = 32
BANDS: Final = 8
TOGETHER: Final = 64
"""Records sketched at once: few enough for a processor to hold near."""

LONGEST: Final = 20_000
"""Characters of a record that are looked at."""

ALIKE: Final = 26
"""Bins that near duplicates share: about four fifths of their pieces."""

FEWEST_WORDS: Final = 24
"""Shorter records have too few pieces to tell templates from near duplicates."""

SPAN: Final = 16
"""Bytes that are hashed from the beginning of each word on: about three words."""

LONGEST_WORD: Final = 24
"""Bytes that words have on average at most, where there are spaces between them."""

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
        self._waiting: list[bytes] = []

    def add(self, text: str) -> None:
        """Take the next record."""
        self._waiting.append(text[:LONGEST].lower().encode("utf-8", "replace"))
        if len(self._waiting) >= TOGETHER:
            self._sketch()

    def _sketch(self) -> None:
        if not self._waiting:
            return
        least, words = _least_of_bins(self._waiting)
        bands = least.astype(np.uint64).reshape(len(least), BANDS, -1)
        mixed = bands[:, :, 0]
        for row in range(1, bands.shape[2]):
            mixed = (mixed * _MULTIPLIER) ^ (mixed >> np.uint64(29)) ^ bands[:, :, row]
        mixed = (mixed * _MULTIPLIER) >> np.uint64(32)
        mixed[words < FEWEST_WORDS] = 0
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


def _least_of_bins(records: list[bytes]) -> tuple[NDArray[np.uint32], _Positions]:
    """(records, BINS): the least hash in each bin; and how many words each record has.

    An empty bin has the hash of the next full one.
    """
    lengths = np.array([len(each) for each in records])
    # Line ends and tabs are blanks like others.
    text = np.maximum(np.frombuffer(b"".join([*records, bytes(SPAN)]), np.uint8), ord(" "))
    starts, counts = _word_starts(text, lengths)
    owners = np.repeat(np.arange(len(records)), counts)
    inside = starts + SPAN <= np.cumsum(lengths)[owners]
    hashes = _hashes(text, starts[inside])
    slots = owners[inside] * BINS + (hashes >> np.uint64(59)).astype(np.int64)
    least = np.full(len(records) * BINS, _EMPTY, np.uint64)
    np.minimum.at(least, slots, (hashes >> np.uint64(20)) & _EMPTY)
    return _filled(least.reshape(len(records), BINS)).astype(np.uint32), counts


def _word_starts(text: NDArray[np.uint8], lengths: _Positions) -> tuple[_Positions, _Positions]:
    """Where words begin, and how many of them each record has.

    Where a script puts no spaces between words, every character begins one.
    """
    ends = np.cumsum(lengths)
    full = text != ord(" ")
    begins = full.copy()
    begins[1:] &= ~full[:-1]
    firsts = (ends - lengths)[lengths > 0]
    begins[firsts] = full[firsts]
    starts = np.flatnonzero(begins)
    counts = _counts(starts, ends)
    dense = counts * LONGEST_WORD < lengths
    if dense.any():
        leads = full & ((text & 0xC0) != 0x80)
        begins[: ends[-1]] |= np.repeat(dense, lengths) & leads[: ends[-1]]
        starts = np.flatnonzero(begins)
        counts = _counts(starts, ends)
    return starts, counts


def _counts(starts: _Positions, ends: _Positions) -> _Positions:
    """How many of them lie in each record."""
    return np.diff(np.searchsorted(starts, ends), prepend=0)


def _hashes(text: NDArray[np.uint8], starts: _Positions) -> _Wide:
    """A hash of the bytes from each place on, as many as `SPAN`."""
    eights = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))
    first, second = eights[starts], eights[starts + 8]
    mixed = (first * _MULTIPLIER) ^ (second + np.uint64(0xD1B54A32D192ED03))
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MULTIPLIER
    mixed = (mixed ^ second) * np.uint64(0xBF58476D1CE4E5B9)
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

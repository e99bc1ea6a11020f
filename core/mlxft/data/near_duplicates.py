"""Find nearly identical records among millions in little memory.

MinHash by one permutation hashing (Li, Owen and Zhang 2012): the shingles that begin at a record's
words are hashed into bins and the least hash of each bin is kept, so the share of equal bins
estimates the overlap of two records. Records that agree in a band of four bins are compared
(Broder 1997).
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
"""Records sketched at once: few enough to stay in the processor's cache."""

LONGEST: Final = 20_000
"""Characters of a record that are hashed."""

ALIKE: Final = 26
"""Equal bins of near duplicates: about four fifths of their shingles."""

FEWEST_WORDS: Final = 24
"""Shorter records have too few shingles to distinguish templates from near duplicates."""

SPAN: Final = 16
"""Bytes of a shingle, from the beginning of a word: about three words."""

LONGEST_WORD: Final = 24
"""Average bytes per word above which a script is taken to have no spaces."""

NEIGHBOURS: Final = 4
"""How many preceding records in a band each record is compared with."""

_COMPARED: Final = 65_536
"""Pairs compared at once."""

_Wide = NDArray[np.uint64]
_Positions = NDArray[np.int64]
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_EMPTY: Final = np.uint64(0xFFFFFFFF)


class Pairs(NamedTuple):
    """Positions of nearly identical records, the earlier one first."""

    first: _Positions
    second: _Positions


class Sketches:
    """MinHash sketches of records, 64 bytes each."""

    def __init__(self) -> None:
        self._marks = array("B")
        self._bands = array("I")
        self._waiting: list[bytes] = []

    def add(self, text: str) -> None:
        """Add the next record."""
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
        """(records, BANDS); equal if all four bins are, 0 for records that are too short."""
        self._sketch()
        return np.frombuffer(self._bands, np.uint32).reshape(-1, BANDS)

    @property
    def marks(self) -> NDArray[np.uint8]:
        """(records, BINS): the last byte of each bin's least hash."""
        self._sketch()
        return np.frombuffer(self._marks, np.uint8).reshape(-1, BINS)


def _least_of_bins(records: list[bytes]) -> tuple[NDArray[np.uint32], _Positions]:
    """(records, BINS): the least hash in each bin, and the number of words of each record.

    An empty bin takes the hash of the next non-empty one.
    """
    lengths = np.array([len(each) for each in records])
    # Line ends and tabs are spaces too.
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
    """Where words begin, and how many each record has.

    In scripts without spaces every character begins a word.
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
    """How many of the starts lie in each record."""
    return np.diff(np.searchsorted(starts, ends), prepend=0)


def _hashes(text: NDArray[np.uint8], starts: _Positions) -> _Wide:
    """A hash of the `SPAN` bytes from each start."""
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
    sketches: Sketches, excluded: NDArray[np.bool_], alike: int = ALIKE
) -> Iterator[Pairs]:
    """Pairs of records with at least `alike` equal bins, some repeatedly, without `excluded`.

    Each record is compared only with its nearest neighbours in a band, so that a dataset of
    near-identical records takes no more time than another.
    """
    bands, marks = sketches.bands, sketches.marks
    kept = np.flatnonzero(~excluded & bands.any(axis=1))
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
    """The sketches of both, in order."""
    both = Sketches()
    for each in (first, second):
        both._marks.frombytes(each.marks.tobytes())
        both._bands.frombytes(each.bands.tobytes())
    return both

"""Find nearly identical records among millions in little memory.

MinHash by one permutation hashing (Li, Owen and Zhang 2012): the shingles that begin at a record's
words are hashed into bins and the least hash of each bin is kept, so the share of equal bins
estimates the overlap of two records. Records that agree in a band of four bins are compared
(Broder 1997).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS: Final = 32
BANDS: Final = 8
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

_COMPARED: Final = 16_384
"""Pairs compared at once."""

_SKETCH: Final = np.dtype([("bands", np.uint32, BANDS), ("marks", np.uint8, BINS)])

_IN_MEMORY: Final = 2 * 1024 * 1024
"""Bytes of sketches above which they are kept in a file."""

_SORTED: Final = 98_304
"""Records of a band that are sorted and compared at once."""

_PIECE: Final = 8192
"""Sketches read at a time."""

_TABLE_BITS: Final = 20
_AT_ONCE: Final = 65_536
"""Values looked up at once."""

_Wide = NDArray[np.uint64]
_Positions = NDArray[np.int64]
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_EMPTY: Final = np.uint64(0xFFFFFFFF)


class Pairs(NamedTuple):
    """Positions of nearly identical records, the earlier one first."""

    first: _Positions
    second: _Positions


class Sketches:
    """MinHash sketches of records, 64 bytes each, in a file once there are many.

    Only parts of them are needed at a time, and only when all records are known.
    """

    def __init__(self) -> None:
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115

    def add(self, texts: bytes, sizes: NDArray[np.int64]) -> None:
        """Add the next records: their texts in UTF-8 without capitals but those of ASCII."""
        if not len(sizes):
            return
        least, words = _least_of_bins(texts, sizes)
        bands = least.astype(np.uint64).reshape(len(least), BANDS, -1)
        mixed = bands[:, :, 0]
        for row in range(1, bands.shape[2]):
            mixed = (mixed * _MULTIPLIER) ^ (mixed >> np.uint64(29)) ^ bands[:, :, row]
        mixed = (mixed * _MULTIPLIER) >> np.uint64(32)
        mixed[words < FEWEST_WORDS] = 0
        sketches = np.empty(len(least), _SKETCH)
        sketches["bands"] = mixed
        sketches["marks"] = least
        self._file.write(sketches.tobytes())
        self._count += len(least)

    def __len__(self) -> int:
        return self._count

    def pieces(self) -> Iterator[NDArray[np.void]]:
        """All sketches in order, some thousands at a time.

        `bands` are equal if all four bins are, 0 for records that are too short; `marks` hold the
        last byte of each bin's least hash.
        """
        self._file.seek(0)
        while piece := self._file.read(_PIECE * _SKETCH.itemsize):
            yield np.frombuffer(piece, _SKETCH)

    def extend(self, other: Sketches) -> None:
        """Add the sketches of another file."""
        for piece in other.pieces():
            self._file.write(piece.tobytes())
            self._count += len(piece)

    def band(self, number: int) -> NDArray[np.uint32]:
        """(records,): one band of each record."""
        found = np.empty(len(self), np.uint32)
        at = 0
        for piece in self.pieces():
            found[at : at + len(piece)] = piece["bands"][:, number]
            at += len(piece)
        return found

    def comparable(self) -> NDArray[np.bool_]:
        """(records,): whether a record is long enough to be compared."""
        rows = [piece["bands"].any(axis=1) for piece in self.pieces()]
        return np.concatenate(rows) if rows else np.zeros(0, bool)

    def at(self, positions: _Positions) -> NDArray[np.void]:
        """The sketches at ascending positions."""
        found = np.empty(len(positions), _SKETCH)
        first = 0
        for piece in self.pieces():
            begin, end = np.searchsorted(positions, (first, first + len(piece)))
            found[begin:end] = piece[positions[begin:end] - first]
            first += len(piece)
        return found


def _least_of_bins(texts: bytes, lengths: _Positions) -> tuple[NDArray[np.uint32], _Positions]:
    """(records, BINS): the least hash in each bin, and the number of words of each record.

    An empty bin takes the hash of the next non-empty one.
    """
    text = _normalized(texts + bytes(SPAN))
    starts, counts = _word_starts(text, lengths)
    inside = starts <= np.repeat(np.cumsum(lengths) - SPAN, counts)
    hashes = _hashes(text, starts[inside])
    first_bins = np.repeat(np.arange(len(lengths)) * BINS, counts)
    slots = first_bins[inside] + (hashes >> np.uint64(59)).astype(np.int64)
    least = np.full(len(lengths) * BINS, _EMPTY, np.uint64)
    np.minimum.at(least, slots, (hashes >> np.uint64(20)) & _EMPTY)
    return _filled(least.reshape(len(lengths), BINS)).astype(np.uint32), counts


def _normalized(raw: bytes) -> NDArray[np.uint8]:
    """The text in lower case, with line ends and tabs as spaces."""
    text = np.frombuffer(raw, np.uint8)
    is_capital = text - np.uint8(ord("A")) < 26
    lowered = text | is_capital.view(np.uint8) * np.uint8(32)
    # A shift, and the maximum with a scalar, take ten times as long.
    return np.maximum(lowered, np.full_like(lowered, ord(" ")))


def _word_starts(text: NDArray[np.uint8], lengths: _Positions) -> tuple[_Positions, _Positions]:
    """Where words begin, and how many each record has.

    In scripts without spaces every character begins a word.
    """
    ends = np.cumsum(lengths)
    full = text != ord(" ")
    begins = full.copy()
    np.greater(full[1:], full[:-1], out=begins[1:])
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
    shingles = np.ndarray(len(text) - SPAN + 1, f"V{SPAN}", text, strides=(1,))[starts]
    halves: _Wide = np.ascontiguousarray(shingles.view("<u8").reshape(-1, 2).T)
    mixed: _Wide = halves[0]
    second: _Wide = halves[1]
    # In place: a third of the time.
    shifted = second + np.uint64(0xD1B54A32D192ED03)
    mixed *= _MULTIPLIER
    mixed ^= shifted
    mixed ^= np.right_shift(mixed, np.uint64(32), out=shifted)
    mixed *= _MULTIPLIER
    mixed ^= second
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= np.right_shift(mixed, np.uint64(27), out=shifted)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= np.right_shift(mixed, np.uint64(31), out=shifted)
    return mixed


def _filled(least: _Wide) -> _Wide:
    incomplete = np.flatnonzero((least == _EMPTY).any(axis=1))
    rows = least[incomplete]
    for _ in range(BINS):
        empty = rows == _EMPTY
        if not empty.any():
            break
        rows = np.where(empty, np.roll(rows, -1, axis=1), rows)
    least[incomplete] = rows
    return least


def near_pairs(
    sketches: Sketches, excluded: NDArray[np.bool_], alike: int = ALIKE
) -> Iterator[Pairs]:
    """Pairs of records with at least `alike` equal bins, some repeatedly, without `excluded`.

    Each record is compared only with its nearest neighbours in a band, so that a dataset of
    near-identical records takes no more time than another.
    """
    usable = ~excluded & sketches.comparable()
    for band in range(BANDS):
        found_at: list[list[Pairs]] = [[] for _ in range(NEIGHBOURS)]
        for kept in _groups(sketches.band(band), usable):
            found = sketches.at(kept)
            key, next_key = found["bands"][:, band], found["bands"][:, (band + 1) % BANDS]
            order = np.lexsort((next_key, key))  # stable, so equal ones stay in their order
            ordered, marks, records = key[order], found["marks"][order], kept[order]
            for apart in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
                same = np.flatnonzero(ordered[apart:] == ordered[:-apart])
                for one, other in _alike(marks, same, apart, alike):
                    left, right = records[one], records[other]
                    pairs = Pairs(np.minimum(left, right), np.maximum(left, right))
                    found_at[apart - 1].append(pairs)
        # The same order however many groups there are: a split depends on it.
        for found_pairs in found_at:
            yield from found_pairs


def _groups(key: NDArray[np.uint32], usable: NDArray[np.bool_]) -> Iterator[_Positions]:
    """The positions of records that may share their key, those with the same one together."""
    shared = may_repeat(key, usable)
    count = int(shared.sum()) // _SORTED + 1
    # Keys are hashes, so ranges of them hold equally many records.
    edges = [number * 2**32 // count for number in range(count + 1)]
    for low, end in pairwise(edges):
        yield np.flatnonzero(shared & (key >= low) & (key <= end - 1))


def may_repeat(
    values: NDArray[np.uint32] | NDArray[np.uint64], usable: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Where the usable values are that occur more than once, and few others.

    Most occur once: what is done with the rest then takes little time and memory.
    """
    ordered = values.copy() if usable is None else values[usable]
    ordered.sort()
    shift = values.dtype.type(8 * values.itemsize - _TABLE_BITS)
    table = np.zeros(1 << _TABLE_BITS, bool)
    for start in range(0, len(ordered), _AT_ONCE):
        some = ordered[start : start + _AT_ONCE + 1]
        table[some[1:][some[1:] == some[:-1]] >> shift] = True
    found = np.empty(len(values), bool)
    for start in range(0, len(values), _AT_ONCE):
        some = values[start : start + _AT_ONCE]
        found[start : start + len(some)] = table[some >> shift]
    return found if usable is None else found & usable


def _alike(
    marks: NDArray[np.uint8], starts: _Positions, apart: int, alike: int
) -> Iterator[tuple[_Positions, _Positions]]:
    """The rows with enough equal marks, of those at `starts` and so far below them."""
    for start in range(0, len(starts), _COMPARED):
        one = starts[start : start + _COMPARED]
        found = one[np.count_nonzero(marks[one] == marks[one + apart], axis=1) >= alike]
        if len(found):
            yield found, found + apart


def joined(first: Sketches, second: Sketches) -> Sketches:
    """The sketches of both, in order."""
    both = Sketches()
    both.extend(first)
    both.extend(second)
    return both

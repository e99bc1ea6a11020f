"""What a set of records is like: formats, lengths, duplicates, overlap, secrets; pure."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxft.data.credentials import secret_in
from mlxft.data.formats import Fields, Part, parts
from mlxft.data.near_duplicates import Sketches, joined, near_pairs
from mlxft.data.token_figures import Bin
from mlxft.data.validation import Line


@dataclass(frozen=True)
class Duplicate:
    """A record that stands in a set before; lines count from 1."""

    line: int
    first_line: int


@dataclass(frozen=True)
class Secret:
    """A record that holds what looks like a key to an account."""

    line: int
    what: str


MOST_NAMED = 10_000
"""Records of a kind that are named; the others are only counted."""

BINS = 60
"""Bins of a histogram of lengths; more would make a few records each look like a pattern."""


class Fingerprints:
    """What is kept of a file's records to know them again: 80 bytes each."""

    def __init__(self) -> None:
        self._lines = array("Q")
        self._digests = array("Q")
        self.sketches = Sketches()

    def add(self, line: int, text: str) -> None:
        """Take a record by the text of all its parts."""
        self._lines.append(line)
        self._digests.frombytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        self.sketches.add(text)

    @property
    def lines(self) -> NDArray[np.uint64]:
        """The line of each record."""
        return np.frombuffer(self._lines, np.uint64)

    @property
    def digests(self) -> NDArray[np.uint64]:
        """Equal for records with the same parts; by chance once in 30 million sets of a million."""
        return np.frombuffer(self._digests, np.uint64)


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths, in characters or tokens as they were given."""

    count: int
    total: int
    shortest: int
    median: int
    longest: int


@dataclass(frozen=True)
class Statistics:
    """A file's faultless records in figures, their lengths in characters without labels."""

    records: int
    faulty_lines: int
    formats: dict[str, int]
    """Records by the format they are written in."""
    lengths: Lengths | None
    """None where there is no record."""
    bins: tuple[Bin, ...]
    duplicates: tuple[Duplicate, ...]
    duplicate_count: int
    near_duplicates: tuple[Duplicate, ...] = ()
    near_count: int = 0
    secrets: tuple[Secret, ...] = ()
    secret_count: int = 0


def statistics(lines: Iterable[Line], prints: Fingerprints) -> Statistics:
    """The figures of a file's lines; `prints`, empty at first, is filled with its records."""
    faulty = secret_count = 0
    formats: Counter[str] = Counter()
    characters: array[int] = array("Q")
    secrets: list[Secret] = []
    for line in lines:
        if line.fields is None or line.faults:
            faulty += 1
            continue
        formats[line.format] += 1
        found_parts = parts(line.fields)
        characters.append(sum([len(part.text) for part in found_parts]))
        text = _identity(found_parts)
        prints.add(line.number, text)
        if found := secret_in(text):
            secret_count += 1
            secrets += [Secret(line.number, found)] if secret_count <= MOST_NAMED else []
    exact = _repeats(prints.digests)
    near = _near(prints.sketches, exact >= 0)
    return Statistics(
        len(characters),
        faulty,
        dict(formats),
        summarize(characters),
        histogram(characters, BINS),
        _named(prints, prints, exact),
        int((exact >= 0).sum()),
        _named(prints, prints, near),
        int((near >= 0).sum()),
        tuple(secrets),
        secret_count,
    )


def identity(fields: Fields) -> str:
    """A text that is equal for records with the same parts."""
    return _identity(parts(fields))


def _identity(found: Sequence[Part]) -> str:
    return "\0".join([f"{part.label} \0{part.text}" for part in found])


def overlap(train: Fingerprints, other: Fingerprints) -> tuple[int, ...]:
    """The lines of `other` whose records are in `train` too, without repeats."""
    digests, first = np.unique(other.digests, return_index=True)
    shared = first[np.isin(digests, train.digests)]
    return tuple(sorted(other.lines[shared].tolist()))


def near_overlap(train: Fingerprints, other: Fingerprints) -> tuple[Duplicate, ...]:
    """The records of `other` that are nearly, but not quite, the same as one of `train`."""
    count = len(train.lines)
    known = np.isin(other.digests, train.digests)
    partner = np.full(count + len(other.lines), -1, np.int64)
    left_out = np.concatenate([np.zeros(count, bool), known])
    for first, second in near_pairs(joined(train.sketches, other.sketches), left_out):
        across = (first < count) & (second >= count)
        partner[second[across]] = first[across]
    return _named(other, train, partner[count:])


def _repeats(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The position of the first record that is the same as each; -1 where it is the first."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    begins = np.ones(len(order), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    first = np.empty(len(order), np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    first[first == np.arange(len(order))] = -1
    return first


def _near(sketches: Sketches, left_out: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The position of an earlier record that is nearly the same as each; -1 where none is."""
    partner = np.full(len(left_out), len(left_out), np.int64)
    for first, second in near_pairs(sketches, left_out):
        np.minimum.at(partner, second, first)
    partner[partner == len(left_out)] = -1
    return partner


def _named(
    prints: Fingerprints, before: Fingerprints, partner: NDArray[np.int64]
) -> tuple[Duplicate, ...]:
    """The first of those that have a partner, by their lines."""
    found = np.flatnonzero(partner >= 0)[:MOST_NAMED]
    lines, firsts = prints.lines[found].tolist(), before.lines[partner[found]].tolist()
    return tuple(Duplicate(line, first) for line, first in zip(lines, firsts, strict=True))


def summarize(lengths: Sequence[int]) -> Lengths | None:
    """The distribution in five figures; None where there are no lengths."""
    if not len(lengths):
        return None
    values = np.asarray(lengths, dtype=np.int64)
    return Lengths(
        len(values),
        int(values.sum()),
        int(values.min()),
        int(np.median(values)),
        int(values.max()),
    )


def histogram(lengths: Sequence[int], bins: int) -> tuple[Bin, ...]:
    """At most `bins` bins of equal width from the shortest to the longest."""
    if not len(lengths):
        return ()
    values = np.asarray(lengths, dtype=np.int64)
    low, high = int(values.min()), int(values.max())
    width = -(-(high - low + 1) // bins)
    counts = np.bincount((values - low) // width)
    return tuple(
        Bin(low + index * width, low + (index + 1) * width - 1, int(count))
        for index, count in enumerate(counts)
    )

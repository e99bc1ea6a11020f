"""What a set of records is like: formats, lengths, duplicates, overlap; pure."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from mlxft.data.formats import Fields, FormatName, detect, parts
from mlxft.data.token_figures import Bin
from mlxft.data.validation import Line


@dataclass(frozen=True)
class Duplicate:
    """A record that stands in the set before; lines count from 1."""

    line: int
    first_line: int


MOST_DUPLICATES = 10_000
"""Repeated records that are named; the others are only counted."""

BINS = 60
"""Bins of a histogram of lengths; more would make a few records each look like a pattern."""

FirstLines = dict[bytes, int]
"""The line of each different record, by `identity`."""


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
    """A file's faultless records in figures, their lengths in characters."""

    records: int
    faulty_lines: int
    formats: dict[FormatName, int]
    lengths: Lengths | None
    """None where there is no record."""
    bins: tuple[Bin, ...]
    duplicates: tuple[Duplicate, ...]
    duplicate_count: int


def statistics(lines: Iterable[Line], first_lines: FirstLines) -> Statistics:
    """The figures of a file's lines; `first_lines`, empty at first, is filled with its records."""
    faulty = repeated = 0
    formats: Counter[FormatName] = Counter()
    characters: array[int] = array("Q")
    duplicates: list[Duplicate] = []
    for line in lines:
        found = detect(line.fields) if line.fields is not None and not line.faults else None
        if line.fields is None or found is None:
            faulty += 1
            continue
        formats[found.name] += 1
        characters.append(length(line.fields))
        first = first_lines.setdefault(identity(line.fields), line.number)
        if first != line.number:
            repeated += 1
            if repeated <= MOST_DUPLICATES:
                duplicates.append(Duplicate(line.number, first))
    return Statistics(
        len(characters),
        faulty,
        dict(formats),
        summarize(characters),
        histogram(characters, BINS),
        tuple(duplicates),
        repeated,
    )


def length(fields: Fields) -> int:
    """A record's length in characters, without labels and JSON."""
    return sum(len(part.text) for part in parts(fields))


def identity(fields: Fields) -> bytes:
    """A digest that is equal for records with the same parts."""
    content = msgspec.json.encode([(part.label, part.text) for part in parts(fields)])
    return hashlib.blake2b(content, digest_size=16).digest()


def overlap(train: FirstLines, other: FirstLines) -> tuple[int, ...]:
    """The lines of `other` whose records are in `train` too, without repeats."""
    return tuple(sorted(other[each] for each in train.keys() & other.keys()))


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

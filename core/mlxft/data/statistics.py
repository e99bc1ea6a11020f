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
from mlxft.data.validation import Line


@dataclass(frozen=True)
class Duplicate:
    """A record that stands in the set before; lines count from 1."""

    line: int
    first_line: int


@dataclass(frozen=True)
class Statistics:
    """A file's faultless records in figures; `characters` is the length of each, in order."""

    faulty_lines: int
    formats: dict[FormatName, int]
    characters: array[int]
    duplicates: tuple[Duplicate, ...]
    first_lines: dict[bytes, int]
    """The line of each different record, by `identity`."""

    @property
    def records(self) -> int:
        """How many records can be trained."""
        return len(self.characters)


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths, in characters or tokens as they were given."""

    count: int
    total: int
    shortest: int
    median: int
    longest: int


@dataclass(frozen=True)
class Bin:
    """How many lengths lie from `low` to `high`, both included."""

    low: int
    high: int
    count: int


def statistics(lines: Iterable[Line]) -> Statistics:
    """The figures of a file's lines."""
    faulty = 0
    formats: Counter[FormatName] = Counter()
    characters: array[int] = array("Q")
    duplicates: list[Duplicate] = []
    first_lines: dict[bytes, int] = {}
    for line in lines:
        found = detect(line.fields) if line.fields is not None and not line.faults else None
        if line.fields is None or found is None:
            faulty += 1
            continue
        formats[found.name] += 1
        characters.append(length(line.fields))
        first = first_lines.setdefault(identity(line.fields), line.number)
        if first != line.number:
            duplicates.append(Duplicate(line.number, first))
    return Statistics(faulty, dict(formats), characters, tuple(duplicates), first_lines)


def length(fields: Fields) -> int:
    """A record's length in characters, without labels and JSON."""
    return sum(len(part.text) for part in parts(fields))


def identity(fields: Fields) -> bytes:
    """A digest that is equal for records with the same parts."""
    content = msgspec.json.encode([(part.label, part.text) for part in parts(fields)])
    return hashlib.blake2b(content, digest_size=16).digest()


def overlap(train: Statistics, other: Statistics) -> tuple[int, ...]:
    """The lines of `other` whose records are in `train` too, without repeats."""
    shared = train.first_lines.keys() & other.first_lines.keys()
    return tuple(sorted(other.first_lines[each] for each in shared))


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

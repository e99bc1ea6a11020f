"""Statistics of a dataset: formats, lengths, duplicates, overlap, secrets; pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxft.data.near_duplicates import Sketches, joined, may_repeat, near_pairs
from mlxft.data.packed_records import PackedRecords
from mlxft.data.reading import Batch
from mlxft.data.record_figures import MAX_LISTED, FileFigures, Secret
from mlxft.data.record_warnings import CountedProblem
from mlxft.data.token_figures import Bin


@dataclass(frozen=True)
class Duplicate:
    """A record that appeared before; lines count from 1."""

    line: int
    first_line: int


BINS = 60
"""Bins of a length histogram; with more, noise would look like a pattern."""


_Lengths = Sequence[int] | NDArray[np.int64]


class Fingerprints:
    """Hashes of a file's records, to recognize repeated ones: 20 bytes each."""

    def __init__(self) -> None:
        self._lines = array("I")
        self._digests = array("Q")
        self._prompts = array("Q")
        self.sketches = Sketches()

    def add(self, records: PackedRecords) -> None:
        """Add the next records."""
        self._lines.frombytes(records.lines)
        self._digests.frombytes(records.digests)
        self._prompts.frombytes(records.prompts)
        self.sketches.add(records.texts, np.frombuffer(records.sizes, np.uint32).astype(np.int64))

    @property
    def lines(self) -> NDArray[np.uint32]:
        """The line of each record."""
        return np.frombuffer(self._lines, np.uint32)

    @property
    def digests(self) -> NDArray[np.uint64]:
        """Equal for equal records; a million records collide with a chance of 1 in 30 million."""
        return np.frombuffer(self._digests, np.uint64)

    @property
    def prompts(self) -> NDArray[np.uint64]:
        """Equal for equal prompts, 0 for a record without one."""
        return np.frombuffer(self._prompts, np.uint64)


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths, in characters or tokens."""

    count: int
    total: int
    shortest: int
    median: int
    longest: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of a file's valid records; lengths in characters, without labels."""

    records: int
    faulty_lines: int
    formats: dict[str, int]
    """Number of records in each format, as written in the file."""
    lengths: Lengths | None
    """None if there are no records."""
    bins: tuple[Bin, ...]
    duplicates: tuple[Duplicate, ...]
    duplicate_count: int
    near_duplicates: tuple[Duplicate, ...] = ()
    near_count: int = 0
    contradictions: tuple[Duplicate, ...] = ()
    """Records that answer an earlier record's prompt differently."""
    contradiction_count: int = 0
    secrets: tuple[Secret, ...] = ()
    secret_count: int = 0
    excluded: int = 0
    """Valid records that aren't trained, since they say so."""
    warnings: tuple[CountedProblem, ...] = ()


def statistics(batches: Iterable[Batch], prints: Fingerprints) -> Statistics:
    """The statistics of a file, given all its lines; adds its records to the empty `prints`."""
    figures = FileFigures()
    for batch in batches:
        prints.add(batch.records)
        figures = batch.progress.figures or figures
    exact = _repeats(prints.digests)
    near = _near(prints.sketches, exact >= 0)
    differing = _contradictions(prints)
    found = np.array(list(figures.lengths), np.int64)
    lengths = np.repeat(found, list(figures.lengths.values()))
    return Statistics(
        records=len(lengths),
        faulty_lines=figures.faulty_lines,
        formats=figures.formats,
        lengths=summarize(lengths),
        bins=histogram(lengths, BINS),
        duplicates=_listed(prints, prints, exact),
        duplicate_count=int((exact >= 0).sum()),
        near_duplicates=_listed(prints, prints, near),
        near_count=int((near >= 0).sum()),
        contradictions=_listed(prints, prints, differing),
        contradiction_count=int((differing >= 0).sum()),
        secrets=figures.secrets,
        secret_count=figures.secret_count,
        excluded=figures.excluded,
        warnings=figures.warnings,
    )


def overlap(train: Fingerprints, other: Fingerprints) -> tuple[int, ...]:
    """The lines of `other` whose records are also in `train`, without repeats."""
    digests, first = np.unique(other.digests, return_index=True)
    shared = first[np.isin(digests, train.digests)]
    return tuple(sorted(other.lines[shared].tolist()))


def prompt_overlap(train: Fingerprints, other: Fingerprints) -> tuple[Duplicate, ...]:
    """The records of `other` that answer a prompt of `train` differently than it does."""
    partner = np.full(len(other.lines), -1, np.int32)
    found = np.flatnonzero(_asked_in(train, other))
    asked = np.flatnonzero(np.isin(train.prompts, other.prompts[found]))
    prompts, first = np.unique(train.prompts[asked], return_index=True)
    partner[found] = asked[first[np.searchsorted(prompts, other.prompts[found])]]
    return _listed(other, train, partner)


def _asked_in(train: Fingerprints, other: Fingerprints) -> NDArray[np.bool_]:
    """Which records of `other` have a prompt of `train`, but are not themselves in it."""
    asked: NDArray[np.bool_] = (other.prompts != 0) & np.isin(other.prompts, train.prompts)
    asked &= ~np.isin(other.digests, train.digests)
    return asked


def near_overlap(train: Fingerprints, other: Fingerprints) -> tuple[Duplicate, ...]:
    """The records of `other` that are nearly the same as one of `train`, with another prompt."""
    count = len(train.lines)
    known = np.isin(other.digests, train.digests) | _asked_in(train, other)
    partner = np.full(count + len(other.lines), -1, np.int32)
    excluded = np.concatenate([np.zeros(count, bool), known])
    for first, second in near_pairs(joined(train.sketches, other.sketches), excluded):
        across = (first < count) & (second >= count)
        partner[second[across]] = first[across]
    return _listed(other, train, partner[count:])


def _contradictions(prints: Fingerprints) -> NDArray[np.int32]:
    """The position of the first record with the same prompt and another answer, for each record;
    -1 if there is none before it."""
    asked = prints.prompts != 0
    first = _repeats(prints.prompts, asked)
    repeated = np.flatnonzero(first >= 0)
    equal = prints.digests[repeated] == prints.digests[first[repeated]]
    first[repeated[equal]] = -1
    return first


def _repeats(
    digests: NDArray[np.uint64], usable: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """The position of the first equal value, for each usable one; -1 if it is the first."""
    kept = np.flatnonzero(may_repeat(digests, usable))
    order = np.argsort(digests[kept], kind="stable")
    ordered, positions = digests[kept][order], kept[order]
    begins = np.ones(len(order), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    first = np.full(len(digests), -1, np.int32)
    first[positions] = positions[begins][np.cumsum(begins) - 1]
    first[positions[begins]] = -1
    return first


def _near(sketches: Sketches, excluded: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The position of the first nearly equal earlier record, for each record; -1 for none."""
    partner = np.full(len(excluded), len(excluded), np.int32)
    for first, second in near_pairs(sketches, excluded):
        np.minimum.at(partner, second, first.astype(np.int32))
    partner[partner == len(excluded)] = -1
    return partner


def _listed(
    prints: Fingerprints, before: Fingerprints, partner: NDArray[np.int32]
) -> tuple[Duplicate, ...]:
    """The first records that have a partner, by line."""
    found = np.flatnonzero(partner >= 0)[:MAX_LISTED]
    lines, firsts = prints.lines[found].tolist(), before.lines[partner[found]].tolist()
    return tuple(Duplicate(line, first) for line, first in zip(lines, firsts, strict=True))


def summarize(lengths: _Lengths) -> Lengths | None:
    """The distribution in five numbers; None without lengths."""
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


def histogram(lengths: _Lengths, bins: int) -> tuple[Bin, ...]:
    """At most `bins` bins of equal width, from the shortest to the longest."""
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

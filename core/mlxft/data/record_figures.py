"""Figures of a file that don't compare its records with each other; without numpy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec

from mlxft.data.credentials import secret_in
from mlxft.data.formats import Identity, identity
from mlxft.data.record_warnings import CountedProblem, CountedProblems
from mlxft.data.validation import RecordLine

MAX_LISTED = 10_000
"""Records of a kind that are listed; the others are only counted."""


@dataclass(frozen=True)
class Secret:
    """A record that seems to contain an API key or token."""

    line: int
    what: str


class FileFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a file's valid records."""

    faulty_lines: int = 0
    excluded: int = 0
    """Valid records that aren't trained, since they say so."""
    formats: dict[str, int] = {}
    """Number of records in each format, as written in the file."""
    lengths: dict[int, int] = {}
    """Number of records of each length in characters, without labels."""
    secrets: tuple[Secret, ...] = ()
    secret_count: int = 0
    warnings: tuple[CountedProblem, ...] = ()


class FigureCounter:
    """Counts the figures of a file, line by line."""

    def __init__(self) -> None:
        self._faulty = self._excluded = self._secret_count = 0
        self._formats: Counter[str] = Counter()
        self._lengths: Counter[int] = Counter()
        self._secrets: list[Secret] = []
        self._warnings = CountedProblems()

    def add(self, line: RecordLine) -> Identity | None:
        """Count a line; return its identity if it is trained."""
        if line.fields is None or line.faults:
            self._faulty += 1
            return None
        self._formats[line.format] += 1
        if line.warnings:
            self._warnings.add(line.number, line.warnings)
        if line.excluded:
            self._excluded += 1
            self._warnings.add(line.number, [line.excluded])
            return None
        found = identity(line.fields)
        self._count(line.number, found)
        return found

    def add_plain(self, number: int, form: str, record: Identity) -> None:
        """Count a line that holds a plain record of a format."""
        self._formats[form] += 1
        self._count(number, record)

    def _count(self, number: int, identity: Identity) -> None:
        self._lengths[identity.length] += 1
        if found := secret_in(identity.text):
            self._secret_count += 1
            if len(self._secrets) < MAX_LISTED:
                self._secrets.append(Secret(number, found))

    def figures(self) -> FileFigures:
        """The figures of all lines so far."""
        return FileFigures(
            faulty_lines=self._faulty,
            excluded=self._excluded,
            formats=dict(self._formats),
            lengths=dict(self._lengths),
            secrets=tuple(self._secrets),
            secret_count=self._secret_count,
            warnings=self._warnings.found(),
        )

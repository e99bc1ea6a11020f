"""What is wrong with a file or a record: the problem, its location and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mlxft.data.containers import has_lines, place
from mlxft.text.printable import printable_line

FaultKind = Literal[
    "missing file",
    "unreadable file",
    "empty file",
    "not JSON lines",
    "encoding",
    "byte order mark",
    "blank line",
    "bad JSON",
    "not an object",
    "unknown format",
    "empty field",
    "wrong type",
    "roles",
    "no answer",
    "no prompt",
    "broken row",
    "repeated key",
    "secret",
    "duplicate",
    "near duplicate",
    "contradiction",
    "in train",
    "too few",
    "template",
    "untrained",
    "too long",
    "prompt",
    "no end",
    "excluded",
    "unused column",
    "untrained turn",
    "lost",
    "date",
    "doubled",
    "vocabulary",
    "positions",
]


@dataclass(frozen=True)
class Problem:
    """What is wrong and how to fix it, without a location."""

    kind: FaultKind
    problem: str
    remedy: str

    def at(self, file: str, line: int | None) -> Fault:
        """The problem at a location."""
        return Fault(file, line, self.kind, self.problem, self.remedy)


@dataclass(frozen=True)
class Fault:
    """A problem at a location; `line` counts from 1, None means the whole file.

    In files other than JSON Lines it counts records. In a dataset of several files it counts
    across all of them; `str` names the right one.
    """

    file: str
    line: int | None
    kind: FaultKind
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = self.file
        if self.line is not None:
            file, line = place(Path(self.file), self.line)
            where = f"{file} {'line' if has_lines(file) else 'record'} {line}"
        return printable_line(f"{where}: {self.problem}; {self.remedy}.")


class FaultGroup(NamedTuple):
    """Faults with the same text; a line of None means the whole file."""

    lines: tuple[int | None, ...]
    text: str


def grouped(found: Iterable[Fault]) -> Iterator[FaultGroup]:
    """Faults with the same text as one, in the order of their first lines."""
    lines_of: dict[tuple[str, str], list[int | None]] = {}
    for each in found:
        lines_of.setdefault((each.problem, each.remedy), []).append(each.line)
    for (problem, remedy), lines in lines_of.items():
        yield FaultGroup(tuple(lines), printable_line(f"{problem}; {remedy}"))

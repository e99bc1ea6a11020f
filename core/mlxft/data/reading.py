"""Read and check a file's lines, some at a time.

A large file is read by a process of its own, `python -m` this module, while another one compares
its records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mlxft.data.child_process import ChildProcess, serve
from mlxft.data.columns import Columns
from mlxft.data.faults import Fault
from mlxft.data.record_figures import FigureCounter, FileFigures
from mlxft.data.validation import scan
from mlxft.errors import DataError

LINES: Final = 100
"""Most lines of a batch."""

CHARACTERS: Final = 1_000_000
"""Characters after which a batch of long lines ends."""

MAX_FAULTS: Final = 10_000
"""Faults kept per file; a file of the wrong format has one on every line."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Some lines of a file; only the last batch has `figures`, of the whole file."""

    read: int
    """Lines read so far."""
    lines: list[int]
    """The lines whose records are trained."""
    identities: list[str]
    """A text for each of these records, equal for equal ones."""
    faults: list[Fault]
    fault_count: int
    figures: FileFigures | None = None


class ReadRequest(msgspec.Struct, frozen=True):
    """The arguments of `batches`, for the child process."""

    path: str
    columns: dict[str, str]


def batches(path: Path, columns: Columns) -> Iterator[Batch]:
    """All lines of a file, read in this process."""
    counter, read, faults_kept, characters = FigureCounter(), 0, 0, 0
    lines, identities, faults, fault_count = list[int](), list[str](), list[Fault](), 0
    for line in scan(path, columns):
        read = line.number
        if line.faults:
            fault_count += len(line.faults)
            faults += line.faults[: MAX_FAULTS - faults_kept - len(faults)]
        if (identity := counter.add(line)) is not None:
            lines.append(read)
            identities.append(identity)
            characters += len(identity)
        if read % LINES == 0 or characters > CHARACTERS:
            yield Batch(read, lines, identities, faults, fault_count)
            faults_kept += len(faults)
            lines, identities, faults, fault_count, characters = [], [], [], 0, 0
    yield Batch(read, lines, identities, faults, fault_count, counter.figures())


def batches_in_child(path: Path, columns: Columns) -> Iterator[Batch]:
    """The same, read in a process of its own. Raises `DataError` if something kills it."""
    request = ReadRequest(str(path), dict(columns))
    with ChildProcess("mlxft.data.reading", request, Batch) as child:
        yield from child
        if child.failed:
            raise DataError(f"{path}: the system killed the check; open the data again.")


def main() -> None:
    """Read the requested file, sending batches."""
    serve(ReadRequest, _read_requested)


def _read_requested(request: ReadRequest, send: Callable[[Batch], object]) -> None:
    for batch in batches(Path(request.path), request.columns):
        send(batch)


if __name__ == "__main__":
    main()

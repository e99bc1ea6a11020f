"""Read and check a file's lines, some at a time.

A large file is read by a process of its own, `python -m` this module, while another one compares
its records.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from mlxft.data.child_process import ChildProcess, Send, serve
from mlxft.data.columns import Columns
from mlxft.data.faults import Fault
from mlxft.data.formats import Identity
from mlxft.data.packed_records import PackedRecords, RecordPacker
from mlxft.data.plain_records import READERS, PlainReader
from mlxft.data.record_figures import FigureCounter, FileFigures
from mlxft.data.validation import RecordLine, read_line, read_lines
from mlxft.errors import DataError

LINES: Final = 1000
"""Most lines of a batch."""

MAX_FAULTS: Final = 10_000
"""Faults kept per file; a file of the wrong format has one on every line."""


class Progress(msgspec.Struct, frozen=True):
    """What is found in some lines of a file; only the last has `figures`, of the whole file."""

    read: int
    """Lines read so far."""
    faults: list[Fault]
    fault_count: int
    records: int = 0
    """Records among these lines that are trained."""
    text_size: int = 0
    """Bytes of their packed texts."""
    figures: FileFigures | None = None


class Batch(NamedTuple):
    """Some lines of a file: what is found, and the records that are trained."""

    progress: Progress
    records: PackedRecords


class ReadRequest(msgspec.Struct, frozen=True):
    """The arguments of `batches`, for the child process."""

    path: str
    columns: dict[str, str]


class _LineReader:
    """Reads lines, taking each for a plain record if the one before was."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._file = str(path)
        self._columns = columns
        self._plain: PlainReader | None = None
        self.form = ""
        """The format of the latest plain record."""

    def read(self, raw: bytes, number: int) -> RecordLine | Identity:
        """The record of a line, or the identity of a plain one."""
        if self._plain is not None and (found := self._plain(raw)) is not None:
            return found
        line = read_line(raw, self._file, number, self._columns)
        self._plain = None if self._columns or line.faults else READERS.get(line.format)
        self.form = line.format
        return line


def batches(path: Path, columns: Columns) -> Iterator[Batch]:
    """All lines of a file, read in this process."""
    reader, counter, packer, read = _LineReader(path, columns), FigureCounter(), RecordPacker(), 0
    faults, fault_count, faults_kept = list[Fault](), 0, 0
    for line in read_lines(path, reader.read):
        if isinstance(line, Identity):
            read += 1
            counter.add_plain(read, reader.form, line)
            packer.add(read, line)
        else:
            read = line.number
            fault_count += len(line.faults)
            faults += line.faults[: MAX_FAULTS - faults_kept - len(faults)]
            if (identity := counter.add(line)) is not None:
                packer.add(read, identity)
        if read % LINES == 0 or packer.full:
            yield _batch(packer.take(), Progress(read, faults, fault_count))
            faults_kept += len(faults)
            faults, fault_count = [], 0
    found = Progress(read, faults, fault_count, figures=counter.figures())
    yield _batch(packer.take(), found)


def _batch(records: PackedRecords, progress: Progress) -> Batch:
    sizes = {"records": len(records.lines) // 4, "text_size": len(records.texts)}
    return Batch(msgspec.structs.replace(progress, **sizes), records)


def batches_in_child(path: Path, columns: Columns) -> Iterator[Batch]:
    """The same, read in a process of its own. Raises `DataError` if something kills it."""
    request = ReadRequest(str(path), dict(columns))
    with ChildProcess("mlxft.data.reading", request, Progress) as child:
        for progress in child:
            count = progress.records
            sizes = [4 * count, 8 * count, 8 * count, 4 * count, progress.text_size]
            packed = [child.attached(size) for size in sizes]
            if [len(each) for each in packed] != sizes:
                break
            yield Batch(progress, PackedRecords(*packed))
        if child.failed:
            raise DataError(f"{path}: the system killed the check; open the data again.")


def main() -> None:
    """Read the requested file, sending batches."""
    serve(ReadRequest, _read_requested)


def _read_requested(request: ReadRequest, send: Send) -> None:
    for progress, records in batches(Path(request.path), request.columns):
        send(progress, *records)


if __name__ == "__main__":
    main()

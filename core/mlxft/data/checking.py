"""Check the files of a folder: faults, statistics and shared records.

Large files are checked by a child process, `python -m` this module.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from mlxft.data.child_process import ChildProcess, serve
from mlxft.data.columns import Columns
from mlxft.data.containers import stamp
from mlxft.data.faults import Fault
from mlxft.data.statistics import (
    Duplicate,
    Fingerprints,
    Statistics,
    near_overlap,
    overlap,
    statistics,
)
from mlxft.data.validation import RecordLine, scan
from mlxft.errors import DataError

LARGE: Final = 2_000_000
"""Bytes above which a child process is worth its start."""

MAX_FAULTS: Final = 10_000
"""Faults kept per file; a file of the wrong format has one on every line."""

CLOCK_LINES: Final = 100
"""Lines between two checks of the clock."""

REPORT_SECONDS: Final = 0.5
"""Time between two progress reports."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is known about a file; `statistics` is set once the whole file is checked."""

    path: str
    read: int
    """Lines checked so far."""
    faults: tuple[Fault, ...]
    fault_count: int
    statistics: Statistics | None = None
    shared: tuple[int, ...] = ()
    """Lines whose records are also in the first file."""
    train: str = ""
    """The first file, where the shared records are."""
    near_shared: tuple[Duplicate, ...] = ()
    """Lines whose records are nearly the same as one of the first file, with its line there."""


class CheckRequest(msgspec.Struct, frozen=True):
    """What the child process is to check."""

    paths: tuple[str, ...]
    columns: dict[str, str]


Send = Callable[[Report], object]


def check(
    paths: Iterable[Path], columns: Columns, send: Send, keep_going: Callable[[], bool]
) -> None:
    """Send reports on these files while checking them; the first is the training set.

    Raises `DataError` if the child process is killed by something else.
    """
    paths = tuple(paths)
    if sum(size for path in paths for _, _, size in stamp(path)) <= LARGE:
        _check_here(paths, columns, send, keep_going)
    else:
        _check_in_child(paths, columns, send, keep_going)


def _check_here(
    paths: Iterable[Path], columns: Columns, send: Send, keep_going: Callable[[], bool]
) -> None:
    train: Fingerprints | None = None
    paths = tuple(paths)
    for path in paths:
        lines, prints = _CheckedLines(path, columns, send, keep_going), Fingerprints()
        found = statistics(lines, prints)
        if not keep_going():
            return
        report = replace(lines.report(), statistics=found)
        if train is not None:
            shared, near = overlap(train, prints), near_overlap(train, prints)
            report = replace(report, train=str(paths[0]), shared=shared, near_shared=near)
        send(report)
        train = prints if train is None else train


class _CheckedLines:
    """Iterates over a file's lines, collecting their faults and reporting progress."""

    def __init__(
        self, path: Path, columns: Columns, send: Send, keep_going: Callable[[], bool]
    ) -> None:
        self._path = path
        self._columns = columns
        self._send = send
        self._keep_going = keep_going
        self._read = 0
        self._faults: list[Fault] = []
        self._fault_count = 0

    def __iter__(self) -> Iterator[RecordLine]:
        reported = time.monotonic()
        for line in scan(self._path, self._columns):
            self._read = line.number
            if line.faults:
                self._fault_count += len(line.faults)
                self._faults.extend(line.faults[: MAX_FAULTS - len(self._faults)])
            yield line
            if line.number % CLOCK_LINES == 0 and time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                self._send(self.report())
                if not self._keep_going():
                    return

    def report(self) -> Report:
        """What is known so far."""
        return Report(
            path=str(self._path),
            read=self._read,
            faults=tuple(self._faults),
            fault_count=self._fault_count,
        )


def _check_in_child(
    paths: Sequence[Path], columns: Columns, send: Send, keep_going: Callable[[], bool]
) -> None:
    request = CheckRequest(tuple(map(str, paths)), dict(columns))
    with ChildProcess("mlxft.data.checking", request, Report) as child:
        for report in child:
            if not keep_going():
                return
            send(report)
        if child.failed:
            raise DataError(f"{paths[0]}: the system killed the check; open the data again.")


def main() -> None:
    """Check the requested files, sending reports."""
    # Records contain no reference cycles, and searching them for some costs a tenth of the time.
    gc.set_threshold(100_000)
    serve(CheckRequest, _check_requested)


def _check_requested(request: CheckRequest, send: Send) -> None:
    _check_here(map(Path, request.paths), request.columns, send, lambda: True)


if __name__ == "__main__":
    main()

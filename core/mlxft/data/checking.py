"""Check the files of a folder: faults, statistics and shared records.

Large files are checked by a child process, `python -m` this module, and read by a child of its own.
"""

from __future__ import annotations

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
from mlxft.data.reading import Batch, batches, batches_in_child
from mlxft.data.statistics import (
    Duplicate,
    Fingerprints,
    Statistics,
    near_overlap,
    overlap,
    prompt_overlap,
    statistics,
)
from mlxft.errors import DataError

LARGE: Final = 2_000_000
"""Bytes above which a child process is worth its start."""

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
    prompts_shared: tuple[Duplicate, ...] = ()
    """Lines that answer a prompt of the first file differently, with its line there."""


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


Read = Callable[[Path, Columns], Iterator[Batch]]


def _check_here(
    paths: Iterable[Path],
    columns: Columns,
    send: Send,
    keep_going: Callable[[], bool],
    read: Read = batches,
) -> None:
    train: Fingerprints | None = None
    paths = tuple(paths)
    for path in paths:
        checked, prints = _CheckedFile(path, read(path, columns), send, keep_going), Fingerprints()
        found = statistics(checked, prints)
        if not keep_going():
            return
        report = replace(checked.report(), statistics=found)
        if train is not None:
            report = replace(
                report,
                train=str(paths[0]),
                shared=overlap(train, prints),
                near_shared=near_overlap(train, prints),
                prompts_shared=prompt_overlap(train, prints),
            )
        send(report)
        train = prints if train is None else train


class _CheckedFile:
    """Iterates over a file's batches, collecting their faults and reporting progress."""

    def __init__(
        self, path: Path, batches: Iterator[Batch], send: Send, keep_going: Callable[[], bool]
    ) -> None:
        self._path = path
        self._batches = batches
        self._send = send
        self._keep_going = keep_going
        self._read = 0
        self._faults: list[Fault] = []
        self._fault_count = 0

    def __iter__(self) -> Iterator[Batch]:
        reported = time.monotonic()
        for batch in self._batches:
            progress = batch.progress
            self._read = progress.read
            self._faults += progress.faults
            self._fault_count += progress.fault_count
            yield batch
            if progress.figures is None and time.monotonic() - reported >= REPORT_SECONDS:
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
    faults: dict[str, tuple[Fault, ...]] = {}
    with ChildProcess("mlxft.data.checking", request, Report) as child:
        for news in child:
            if not keep_going():
                return
            faults[news.path] = faults.get(news.path, ()) + news.faults
            send(replace(news, faults=faults[news.path]))
        if child.failed:
            raise DataError(f"{paths[0]}: the system killed the check; open the data again.")


def main() -> None:
    """Check the requested files, sending reports."""
    serve(CheckRequest, _check_requested)


def _check_requested(request: CheckRequest, send: Send) -> None:
    """Check files, sending each fault only once."""
    sent: dict[str, int] = {}

    def send_news(report: Report) -> None:
        known = sent.get(report.path, 0)
        sent[report.path] = len(report.faults)
        send(replace(report, faults=report.faults[known:]))

    _check_here(map(Path, request.paths), request.columns, send_news, lambda: True, _read)


def _read(path: Path, columns: Columns) -> Iterator[Batch]:
    """Read a file in a process of its own if it is worth its start."""
    is_large = sum(size for _, _, size in stamp(path)) > LARGE
    return (batches_in_child if is_large else batches)(path, columns)


if __name__ == "__main__":
    main()

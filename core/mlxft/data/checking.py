"""The files of a folder checked: faults, figures and what they share; large ones by a process.

The process is `python -m` this module: parsing a large file holds the interpreter, and a viewer
that shares it would answer its keys late.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from mlxft.data.columns import Columns
from mlxft.data.containers import stamp
from mlxft.data.statistics import (
    Duplicate,
    Fingerprints,
    Statistics,
    near_overlap,
    overlap,
    statistics,
)
from mlxft.data.validation import Fault, Line, scan
from mlxft.errors import DataError

LARGE: Final = 2_000_000
"""Bytes above which a process of its own is worth its start."""

MOST_FAULTS: Final = 10_000
"""Faults kept of a file; a file of the wrong format has one on every line."""

LOOK_LINES: Final = 100
"""Lines between two looks at the clock."""

NICENESS: Final = 10
"""How far the process that checks gives way: keys come first."""

TELL_SECONDS: Final = 0.5
"""Time between two tellings of progress."""


@dataclass(frozen=True)
class Report:
    """What is known of a file; `statistics` is there once the whole is checked."""

    path: str
    read: int
    """Lines already checked."""
    faults: tuple[Fault, ...]
    fault_count: int
    statistics: Statistics | None = None
    shared: tuple[int, ...] = ()
    """Lines whose records are in the first file too."""
    near_shared: tuple[Duplicate, ...] = ()
    """Lines whose records are nearly the same as one of the first file, with its line there."""


Tell = Callable[[Report], object]


def check(
    paths: Iterable[Path], columns: Columns, tell: Tell, keep_going: Callable[[], bool]
) -> None:
    """Tell reports on these files as their checking goes on; the first is the training set.

    Raises `DataError` where the process that checks is ended by something else.
    """
    paths = tuple(paths)
    if sum(size for path in paths for _, _, size in stamp(path)) <= LARGE:
        _check_here(paths, columns, tell, keep_going)
    else:
        _check_elsewhere(paths, columns, tell, keep_going)


def _check_here(
    paths: Iterable[Path], columns: Columns, tell: Tell, keep_going: Callable[[], bool]
) -> None:
    train: Fingerprints | None = None
    for path in paths:
        checking, prints = _Checking(path, columns, tell, keep_going), Fingerprints()
        figures = statistics(checking, prints)
        if not keep_going():
            return
        found = replace(checking.report(), statistics=figures)
        if train is not None:
            found = replace(
                found, shared=overlap(train, prints), near_shared=near_overlap(train, prints)
            )
        tell(found)
        train = prints if train is None else train


class _Checking:
    """A file's lines one by one, with their faults kept and the progress told."""

    def __init__(
        self, path: Path, columns: Columns, tell: Tell, keep_going: Callable[[], bool]
    ) -> None:
        self._path = path
        self._columns = columns
        self._tell = tell
        self._keep_going = keep_going
        self._read = 0
        self._faults: list[Fault] = []
        self._fault_count = 0

    def __iter__(self) -> Iterator[Line]:
        told = time.monotonic()
        for line in scan(self._path, self._columns):
            self._read = line.number
            self._fault_count += len(line.faults)
            self._faults.extend(line.faults[: MOST_FAULTS - len(self._faults)])
            yield line
            if line.number % LOOK_LINES == 0 and time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                self._tell(self.report())
                if not self._keep_going():
                    return

    def report(self) -> Report:
        """What is known so far."""
        return Report(str(self._path), self._read, tuple(self._faults), self._fault_count)


def _check_elsewhere(
    paths: Sequence[Path], columns: Columns, tell: Tell, keep_going: Callable[[], bool]
) -> None:
    # -P: modules in the current folder must not stand in for installed ones.
    command = [sys.executable, "-P", "-m", "mlxft.data.checking", json.dumps(dict(columns))]
    command.extend(map(str, paths))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while keep_going() and (line := process.stdout.readline()):
                tell(msgspec.json.decode(line, type=Report))
        finally:
            ended = process.poll()
            process.kill()
    if ended and keep_going():
        raise DataError(f"{paths[0]}: the check was ended by the system; open the data again.")


def main() -> None:
    """Check the files that the command line names after their columns.

    Stdout gets a report a line until nobody reads them.
    """
    os.nice(NICENESS)
    # Records hold no circles, and to look for some among them takes a tenth of the time.
    gc.set_threshold(100_000)

    def tell(report: Report) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()

    with contextlib.suppress(BrokenPipeError):
        columns, *paths = sys.argv[1:]
        _check_here(map(Path, paths), json.loads(columns), tell, lambda: True)


if __name__ == "__main__":
    main()

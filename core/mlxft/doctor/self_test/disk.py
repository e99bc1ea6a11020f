"""How fast the disk of the runs is."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlxft.self_test.checks import REPORT, Check, disk_checks

SMALL_FILES: Final = 5

_SMALL: Final = 4096
_BLOCK: Final = 1_000_000


def checked(folder: Path, size: int, clock: Callable[[], float] = time.perf_counter) -> list[Check]:
    """Write a file of `size` bytes and some small ones into the folder, flushed to the disk.

    `clock` is in seconds.
    """
    try:
        seconds = _seconds(folder / "large", size, clock)
        small = [_seconds(folder / f"small-{at}", _SMALL, clock) for at in range(SMALL_FILES)]
    except OSError as error:
        remedy = f"Free disk space or choose another folder with --dir; otherwise {REPORT}."
        return [Check("disk", "differs", f"can't be written ({error.strerror})", remedy)]
    return disk_checks(size / max(seconds, 1e-9), statistics.median(small))


def _seconds(path: Path, size: int, clock: Callable[[], float]) -> float:
    """How long the file takes until it is on the disk; it is removed again."""
    block = os.urandom(min(size, _BLOCK))
    try:
        started = clock()
        with path.open("wb") as file:
            for _ in range(max(1, size // len(block))):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return clock() - started
    finally:
        path.unlink(missing_ok=True)

"""One run at a time per machine, and no sleep while it trains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlxft.errors import RunError
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import runtime_dir


def _lock_file() -> Path:
    return runtime_dir() / "training.lock"


def refuse_if_training() -> None:
    """Raise `RunError` naming the run that trains on this machine, if there is one."""
    other = lock.holder(_lock_file())
    if other is not None:
        raise _busy(other)


@contextmanager
def only_training(directory: RunDirectory) -> Iterator[None]:
    """Hold the machine's training lock; two runs would halve each other's memory and speed.

    Raises `RunError` naming the other run.
    """
    path = _lock_file()
    with lock.taken(path, f"{os.getpid()} {directory.path}") as got:
        if got is None:
            raise _busy(lock.holder(path) or "")
        yield


def _busy(note: str) -> RunError:
    process, _, run = note.partition(" ")
    if not run:
        return RunError("Another run is training on this machine; wait until it ends.")
    return RunError(
        f"{run} is training on this machine (process {process}); wait until it ends, or stop it "
        f"with mlxft-tui stop {run}."
    )


def keep_awake() -> str | None:
    """Prevent an idle Mac from sleeping for as long as this process lives.

    Returns the name of the tool that does it; None on other systems or where it can't be started.
    """
    caffeinate = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if caffeinate is None:
        return None
    try:
        subprocess.Popen(
            [caffeinate, "-i", "-s", "-w", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    return "caffeinate"

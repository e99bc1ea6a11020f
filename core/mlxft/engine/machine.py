"""One run at a time per machine, and no sleep while it trains."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from mlxft.engine.address import CHECK_SECONDS
from mlxft.errors import RunError, StorageError
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import runtime_dir, state_dir


def _lock_file() -> Path:
    """A path that is the same in every session of this machine's user. Raises `StorageError`."""
    # A home folder may be shared by several machines.
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node()) or "host"
    return state_dir() / f"training-{host}.lock"


def refuse_if_training(runs: Path) -> None:
    """Raise `RunError` naming the run that trains on this machine, if there is one.

    `runs` is the adapters folder in which another one is to be started. Raises `StorageError` if
    the folders of its lock and its socket can't be written.
    """
    runtime_dir()
    other = lock.holder(_lock_file())
    if other is not None:
        raise _busy(other)
    for run in _live_runs(runs):
        raise _busy(_note(run, run.process))


def training_run() -> Path | None:
    """The folder of the run that holds this machine's lock. Raises `StorageError`."""
    _, _, run = (lock.holder(_lock_file()) or "").partition(" ")
    return Path(run) if run else None


def _live_runs(runs: Path) -> Iterator[RunDirectory]:
    """Those that an engine listens for, also if the machine's lock doesn't show them."""
    for path in sorted(runs.glob("*/address")):
        run = RunDirectory(path.parent)
        if run.is_live():
            yield run


@contextmanager
def only_training(directory: RunDirectory) -> Iterator[MachineLock]:
    """Hold the machine's training lock; two runs would halve each other's memory and speed.

    Raises `RunError` naming the other run, and `StorageError`.
    """
    with ExitStack() as stack:
        held = MachineLock(stack, _note(directory, os.getpid()))
        if not held.take():
            raise _busy(lock.holder(_lock_file()) or "")
        yield held


class MachineLock:
    """The machine's training lock, taken again where its file was removed."""

    def __init__(self, stack: ExitStack, note: str) -> None:
        self._stack = stack
        self._note = note
        self._held: lock.Held | None = None

    def take(self) -> bool:
        """Whether the lock is held now. Raises `StorageError` if its file can't be created."""
        if self._held is None or not self._held.is_in_place():
            taken = self._stack.enter_context(lock.taken(_lock_file(), self._note))
            self._held = taken or self._held
            return taken is not None
        return True

    async def keep(self) -> None:
        """Take it again whenever its file is gone, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with suppress(StorageError):
                await asyncio.to_thread(self.take)


def _note(run: RunDirectory, process: int | None) -> str:
    return f"{process or 'unknown'} {run.path}"


def _busy(note: str) -> RunError:
    process, _, run = note.partition(" ")
    if not run:
        return RunError(
            "Another run is training on this machine; wait until it ends.", "machine_busy"
        )
    return RunError(
        f"{run} is training on this machine (process {process}); wait until it ends, or stop it "
        f"with mlxft-tui stop {run}.",
        "machine_busy",
    )


SHORT_WORK: Final[Mapping[str, str]] = {
    "MLX_MAX_OPS_PER_BUFFER": "8",
    "MLX_MAX_MB_PER_BUFFER": "16",
}
"""Limits of MLX's command buffers, well below its own of 20 to 50 operations and 40 to 50 MB on
Metal; what they cost there isn't measured."""

RELAXED: Final[Mapping[str, str]] = {"AGX_RELAX_CDM_CTXSTORE_TIMEOUT": "1"}
"""Has the GPU's driver wait longer; undocumented, as said in ml-explore/mlx#3267."""


def gpu_environment(gpu_work: str) -> dict[str, str]:
    """Variables to set before MLX is loaded, so that a Mac's GPU gets work of this kind.

    Empty on other systems; the user's own variables are kept.
    """
    if sys.platform != "darwin" or gpu_work == "normal":
        return {}
    wanted = {**SHORT_WORK, **(RELAXED if gpu_work == "relaxed" else {})}
    return {name: value for name, value in wanted.items() if name not in os.environ}


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

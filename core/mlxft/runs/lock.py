"""Locks that a process holds for life, and that die with it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlxft.errors import StorageError

_PATIENCE = 0.5
"""Seconds in which a look at the lock by `is_taken` is over for certain."""


@dataclass(frozen=True)
class Held:
    """A lock this process has."""

    path: Path
    descriptor: int

    def is_in_place(self) -> bool:
        """Whether others still find it; a deleted file locks nothing for them."""
        return is_at(self.descriptor, self.path)


@contextmanager
def taken(path: Path, note: str = "") -> Iterator[Held | None]:
    """Take the lock, or yield None if another process has it; `note` tells who has it.

    Raises `StorageError` if the lock's file can't be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"{path}: the lock can't be taken ({error.strerror}); check the folder's permissions."
        ) from None
    try:
        got = _take(descriptor)
        if got and note:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
        yield Held(path, descriptor) if got else None
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def is_taken(path: Path) -> bool:
    """Whether a process has the lock; several may look at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def holder(path: Path) -> str | None:
    """The note of the process that has the lock, None if nobody has it."""
    if not is_taken(path):
        return None
    return path.read_text(encoding="utf-8", errors="replace")

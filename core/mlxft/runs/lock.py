"""Locks that a process holds until it exits, however it exits."""

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
"""Seconds after which a concurrent `is_taken` has certainly released its shared lock."""


@dataclass(frozen=True)
class Held:
    """A lock this process holds."""

    path: Path
    descriptor: int

    def is_in_place(self) -> bool:
        """Whether the path still leads to the locked file; a deleted one locks nothing."""
        return is_at(self.descriptor, self.path)


@contextmanager
def taken(path: Path, note: str = "", *, patience: float = _PATIENCE) -> Iterator[Held | None]:
    """Take the lock, or yield None if another process holds it; `note` identifies the holder.

    `patience` is the seconds to wait for it. Raises `StorageError` if the lock file can't be
    created or written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refusal(path, error) from None
    try:
        got = _take(descriptor, patience)
        if got and note:
            _write(descriptor, note, path)
        yield Held(path, descriptor) if got else None
    finally:
        os.close(descriptor)


def _write(descriptor: int, note: str, path: Path) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, os.fsencode(note), 0)
    except OSError as error:
        raise _refusal(path, error) from None


def _refusal(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: the lock can't be taken ({error.strerror}); free disk space or check the "
        "folder's permissions."
    )


def _take(descriptor: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
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
    """Whether a process holds the lock; several may check at once."""
    try:
        # A pipe in its place would be waited for otherwise.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
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
    """Whether the open file is still the one at that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def holder(path: Path) -> str | None:
    """The note of the process that holds the lock; None if it is free."""
    if not is_taken(path):
        return None
    return path.read_text(encoding="utf-8", errors="replace")

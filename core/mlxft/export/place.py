"""Where an export is written: beside its place, and moved there once it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlxft.errors import StorageError
from mlxft.text import figures


def refuse_taken(out: Path) -> None:
    """Raise `StorageError` if the folder has files, or is a file."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out}: this already exists; choose another --out.")


def free_bytes(out: Path) -> int:
    """Free space where a folder would be written. Raises `OSError`."""
    place = next(each for each in (out, *out.absolute().parents) if each.is_dir())
    return shutil.disk_usage(place).free


def refuse_full(out: Path, needed: int | None, free: int) -> None:
    """Raise `StorageError` if the export doesn't fit on the disk."""
    if needed is not None and needed > free:
        raise StorageError(
            f"{out}: the export needs about {figures.size(needed)} and the disk has "
            f"{figures.size(free)} left; free space, or choose another --out."
        )


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """An empty folder beside the final one, removed unless it was moved there.

    Raises `StorageError` while another export writes it, and `OSError`. What a killed one has
    left there is removed.
    """
    folder = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _locked(descriptor, folder):
            raise StorageError(
                f"{out}: another export is writing this; wait for it, or choose another --out."
            )
        _clear(folder)
        try:
            yield folder
        finally:
            if _is_at(descriptor, folder):
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, folder: Path) -> bool:
    """Take the folder's lock, which its process loses with its end, however it ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # A file system without locks.
    return _is_at(descriptor, folder)


def _is_at(descriptor: int, folder: Path) -> bool:
    """Whether the path still leads to the opened folder."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    return False


def _clear(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()

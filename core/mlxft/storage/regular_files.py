"""Regular files read without waiting for what is none: a pipe or a device may never end."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

LARGEST_CONFIG: Final = 1_000_000
"""Bytes of a file that people write; such ones have far fewer."""


def open_regular(file: Path) -> BinaryIO:
    """A file to read. Raises `OSError`, also for a folder, a pipe or a device."""
    # Without O_NONBLOCK a named pipe would be waited for until somebody writes to it.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no file", str(file))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(file: Path, largest: int | None = None) -> bytes:
    """A file's bytes. Raises `OSError`, also for one with more than `largest` bytes."""
    with open_regular(file) as opened:
        data = opened.read() if largest is None else opened.read(largest + 1)
    if largest is not None and len(data) > largest:
        raise OSError(errno.EFBIG, f"it has more than {largest / 1e6:g} MB", str(file))
    return data


def read_config(file: Path, errors: str = "strict") -> str:
    """The text of a file that people write. Raises `OSError` and `UnicodeDecodeError`."""
    text = read_regular(file, LARGEST_CONFIG).decode(errors=errors)
    return io.StringIO(text, newline=None).read()  # Line ends of all systems are one.

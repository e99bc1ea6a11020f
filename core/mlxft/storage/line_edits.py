"""Lines of large text files replaced or removed, the whole file at once or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from mlxft.storage.atomic_files import sync_folder


def replace_line(file: Path, line: bytes, instead: bytes | None) -> bool:
    """Replace the last line that equals `line`, or remove it with None; False if there is none.

    Raises `OSError`; the file is as before then.
    """
    file = file.resolve()  # A link stays one.
    start = _last(file, line)
    if start is None:
        return False
    temporary = file.with_name(f".{file.name}.new")
    try:
        with file.open("rb") as old, temporary.open("wb") as new:
            _copy(old, new, start)
            if instead is not None:
                new.write(instead + b"\n")
            old.readline()
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
        temporary.chmod(stat.S_IMODE(file.stat().st_mode))
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(file.parent)
    return True


def _last(file: Path, line: bytes) -> int | None:
    """Where the last line begins that equals this one, apart from its end."""
    found, position = None, 0
    with file.open("rb") as opened:
        for each in opened:
            if each.rstrip(b"\r\n") == line:
                found = position
            position += len(each)
    return found


def _copy(old: BinaryIO, new: BinaryIO, size: int) -> None:
    while size > 0 and (block := old.read(min(size, 1 << 20))):
        new.write(block)
        size -= len(block)

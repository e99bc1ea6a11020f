"""Space on the disk of a folder."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path


def free_space(folder: Path) -> int | None:
    """Bytes free on the disk of a folder, which need not exist yet; None if that isn't known."""
    for each in (folder, *folder.absolute().parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(each).free
    return None

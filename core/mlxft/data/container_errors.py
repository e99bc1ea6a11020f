"""Files whose records can't be read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mlxft.errors import DataError
from mlxft.text.printable import printable_line

LFS: Final = b"version https://git-lfs"
"""First bytes of the pointer that Git LFS leaves instead of a file that wasn't fetched."""
LFS_PROBLEM: Final = "this is a Git LFS pointer, not the file itself"
LFS_REMEDY: Final = "run git lfs pull"


class ContainerError(DataError):
    """A file whose records can't be read, with the reason and the fix."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(printable_line(f"{path}: {problem}; {remedy}."))
        self.path = path
        self.problem = problem
        self.remedy = remedy

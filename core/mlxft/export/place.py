"""Where an export is written."""

from __future__ import annotations

from pathlib import Path

from mlxft.errors import StorageError


def refuse_taken(out: Path) -> None:
    """Raise `StorageError` if the folder has files, or is a file."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out}: this already exists; choose another --out.")

"""Errors of writing an export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlxft.compute.tokenization import first_line
from mlxft.errors import StorageError


def refuse_not_utf8(out: Path) -> None:
    """Raise `StorageError` for a folder that MLX could not load a model from."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise StorageError(
            f"{out}: MLX loads no model from a path that is not UTF-8; choose another --out."
        ) from None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say where the disk failed."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # MLX's own writing raises the latter
        raise StorageError(
            f"{folder}: the export can't be written ({first_line(error)}); check the disk's free "
            "space and the folder's permissions."
        ) from error

"""The compiled kernels that MLX's CUDA backend keeps on disk."""

from __future__ import annotations

import contextlib
from pathlib import Path


def remove_torn(folder: Path) -> None:
    """Remove kernels that MLX was killed while it wrote, with which every later process would fail.

    mlx 0.32.4 writes a kernel, the names of its functions and its source one after another, in
    place, and reads any kernel that is there. One that is just being written is compiled once more.
    """
    for kernel in folder.rglob("*.ptx"):
        with contextlib.suppress(OSError):
            if not all(_is_filled(kernel.with_suffix(each)) for each in (".txt", ".cu")):
                kernel.unlink()


def _is_filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0

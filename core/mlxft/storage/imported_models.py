"""Where a GGUF file is kept as a model folder once it is imported."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from mlxft.storage.paths import cache_dir

SUFFIX: Final = ".gguf"
VERSION: Final = 1
"""Of the import; another one has folders of its own."""

_HEAD: Final = 1 << 23
"""Bytes from the start, which hold the metadata."""

_SAMPLE: Final = 1 << 16
_SAMPLES: Final = 64


def is_gguf(path: Path) -> bool:
    """Whether a path leads to a GGUF file, by its name."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def imported_folder(file: Path) -> Path:
    """The folder of a GGUF file's import, which is not there before; it depends on the contents.

    At most 12 MB of the file are read. Raises `OSError`.
    """
    found = file.resolve()
    stat = found.stat()
    name = f"{found.stem}-{_digest(found, stat.st_size, stat.st_mtime_ns)}"
    return cache_dir() / "models" / name


@lru_cache(maxsize=16)
def _digest(file: Path, size: int, written: int) -> str:
    """The first digits of a hash of samples; `written` is when the file changed last."""
    found = hashlib.sha256(f"{VERSION} {size}\n".encode())
    with file.open("rb") as opened:
        found.update(opened.read(_HEAD))
        for number in range(_SAMPLES):
            opened.seek(max(0, (size - _SAMPLE) * number // (_SAMPLES - 1)))
            found.update(opened.read(_SAMPLE))
    return found.hexdigest()[:12]

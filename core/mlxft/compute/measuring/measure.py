"""The measurements by name, from JSON to JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.compute import backend
from mlxft.compute.measuring import gradients, model_folder, products, steps
from mlxft.compute.training.checkpoint import examined
from mlxft.errors import RunError
from mlxft.runs.directory import RunDirectory
from mlxft.self_test.figures import GradientRequest, ProductRequest, StepPoint


def measured(name: str, request: str) -> bytes:
    """What a measurement finds, as one line of JSON. Raises `RunError` for another name."""
    if name not in _MEASUREMENTS:
        raise RunError(f"{name} is not a measurement; these are: {', '.join(_MEASUREMENTS)}.")
    kind, measure = _MEASUREMENTS[name]
    found = measure(msgspec.json.decode(request, type=kind))
    backend.close()
    return msgspec.json.encode(found)


class _Folder(msgspec.Struct, frozen=True):
    path: str
    config: dict[str, Any] = {}


def _model(request: _Folder) -> str:
    model_folder.write(Path(request.path), request.config)
    return request.path


def _checkpoints(request: _Folder) -> list[tuple[int, str | None]]:
    directory = RunDirectory(Path(request.path))
    return examined(directory, directory.recipe())


_MEASUREMENTS: Final[dict[str, tuple[Any, Callable[[Any], Any]]]] = {
    "step": (StepPoint, steps.measure),
    "gradient": (GradientRequest, gradients.measure),
    "product": (ProductRequest, products.measure),
    "model": (_Folder, _model),
    "checkpoints": (_Folder, _checkpoints),
}

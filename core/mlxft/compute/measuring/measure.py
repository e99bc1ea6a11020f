"""The measurements by name, from lines of JSON to lines of JSON."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import mlx.core as mx
import msgspec

from mlxft.compute.measuring import gradients, model_folder, products, steps
from mlxft.compute.training import packing
from mlxft.compute.training.checkpoint import examined
from mlxft.errors import RunError
from mlxft.runs.directory import RunDirectory
from mlxft.self_test.figures import GradientRequest, Measured, ProductRequest, StepPoint, Wanted

LITTLE: Final = 1_000_000
"""Bytes that a measurement may leave in memory: peaks are many times as large."""


def answer(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer each line of requests with one of what was measured, until there are no more or
    something is left in memory.

    Raises `RunError` for an unknown name, and what measuring raises.
    """
    for line in requests:
        found = _measured(msgspec.json.decode(line, type=Wanted))
        is_last = _left() > LITTLE
        answers.write(msgspec.json.encode(Measured(msgspec.Raw(found), is_last)) + b"\n")
        answers.flush()
        if is_last:
            break


def _measured(wanted: Wanted) -> bytes:
    if wanted.name not in _MEASUREMENTS:
        names = ", ".join(_MEASUREMENTS)
        raise RunError(f"{wanted.name} is not a measurement; these are: {names}.")
    kind, measure = _MEASUREMENTS[wanted.name]
    return msgspec.json.encode(measure(msgspec.json.decode(wanted.request, type=kind)))


def _left() -> int:
    """Bytes that are left in MLX's memory."""
    packing.forget_records()
    gc.collect()
    mx.synchronize()
    mx.clear_cache()
    return mx.get_active_memory()


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

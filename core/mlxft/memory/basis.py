"""What a memory estimate stands on, known without a model's weights or an engine."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlxft.data.batch_plan import padded_width
from mlxft.errors import ModelError
from mlxft.memory.calibration import (
    Calibration,
    calibration_for,
    corrected_estimate,
    remembered_peaks,
)
from mlxft.paths import demo_model, expanded
from mlxft.recipe import Recipe

if TYPE_CHECKING:
    from mlxft.memory.estimator import Kind, MemoryEstimate
    from mlxft.memory.shapes import ModelShapes


GB = 10**9


@dataclass(frozen=True)
class Basis:
    """What an estimate stands on: the model, the device, the data and this machine's past runs.

    `limit` is bytes, `longest` the tokens of the longest record where the data is known.
    """

    shapes: ModelShapes
    kind: Kind
    limit: int | None
    longest: int | None = None
    calibration: Calibration = field(default_factory=Calibration)

    def need(self, recipe: Recipe) -> MemoryEstimate:
        """The memory of a recipe."""
        width = padded_width(self.longest, recipe.max_seq_length) if self.longest else None
        return corrected_estimate(
            self.shapes, recipe, self.kind, self.limit, width, self.calibration
        )


def learnt(shapes: ModelShapes, kind: Kind) -> Calibration:
    """What this machine's finished runs teach about a model. Reads a file; call it in a thread."""
    return calibration_for(shapes, kind, _mlx_version(), remembered_peaks())


def _mlx_version() -> str:
    try:
        return importlib.metadata.version("mlx")
    except importlib.metadata.PackageNotFoundError:
        return ""


def config_of(model: str, base: Path | None = None) -> Mapping[str, Any]:
    """A local model's config.json; paths are relative to `base`. Raises `ModelError`."""
    file = folder_of(model, base or Path()) / "config.json"
    try:
        config = msgspec.json.decode(file.read_bytes())
    except OSError:
        if model == "demo":
            raise ModelError(
                "demo: the demo's model has not been imported yet; run mlxft-tui demo once."
            ) from None
        raise ModelError(
            f"{file}: there is no config.json; give a folder that holds one (the file of the "
            "model's repository is enough)."
        ) from None
    except msgspec.DecodeError:
        raise ModelError(f"{file}: this is not valid JSON; get the file anew.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: this is no model's config; get the file anew.")
    return config


def folder_of(model: str, base: Path) -> Path:
    """A model's folder: itself, the demo's import, or the newest download of a hub id."""
    path = base / expanded(model)
    if path.is_dir():
        return path
    if model == "demo":
        return demo_model()
    name = f"models--{model.replace('/', '--')}"
    snapshots = sorted(
        (_hub() / name).glob("snapshots/*/config.json"), key=lambda each: each.stat().st_mtime
    )
    return snapshots[-1].parent if snapshots else path


def _hub() -> Path:
    """Where the hub's client keeps its downloads."""
    own = os.environ.get("HF_HUB_CACHE")
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return expanded(own) if own else expanded(home) / "hub"

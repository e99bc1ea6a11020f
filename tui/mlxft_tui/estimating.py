"""A recipe's memory without a model's weights or an engine: what it stands on, and the command."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlxft.data.batch_plan import padded_width
from mlxft.errors import ModelError, RecipeError
from mlxft.memory.calibration import (
    Calibration,
    calibration_for,
    corrected_estimate,
    remembered_peaks,
)
from mlxft.paths import cache_dir, expanded
from mlxft.recipe import Recipe
from mlxft_tui import figures
from mlxft_tui.sureness import Standing, sureness

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


def estimate_recipe(
    recipe: Recipe, model: str | None, device: str | None
) -> tuple[MemoryEstimate, Standing]:
    """The memory of the recipe's training, on this machine or on a device named by `device`, and
    how sure that is.

    `model` is a folder that holds a config.json, in place of the recipe's. Raises `ModelError`
    where there is none, and `RecipeError` for a device that can't be read.
    """
    from mlxft.memory.shapes import ModelShapes
    from mlxft.telemetry.limits import machine_memory

    wanted = model or recipe.model
    if not wanted:
        raise RecipeError("The recipe names no model; add one, or --model DIR.")
    shapes = ModelShapes.from_config(config_of(wanted))
    if device is not None:
        kind, limit = _device(device)
        basis = Basis(shapes, kind, limit)
    else:
        machine = machine_memory()
        basis = Basis(shapes, machine.kind, machine.limit, calibration=learnt(shapes, machine.kind))
    return basis.need(recipe), Standing(basis.kind, basis.calibration, recipe.max_seq_length)


def tell(estimate: MemoryEstimate, standing: Standing, *, as_json: bool) -> int:
    """Print parts, total, limit and verdict; returns 0 where it fits, 1 where it won't."""
    if as_json:
        figures_of = {
            **estimate.parts,
            "total": estimate.total,
            "limit": estimate.limit,
            "verdict": estimate.verdict,
        }
        print(json.dumps(figures_of))
    else:
        for name, size in estimate.parts.items():
            print(f"{name:12} {figures.gigabytes(size):>7} GB")
        limit = f" of {figures.gigabytes(estimate.limit)} GB" if estimate.limit else ""
        print(f"{'total':12} {figures.gigabytes(estimate.total):>7} GB{limit}")
        alone = f"{figures.gigabytes(estimate.peak):>7} GB, as the Train screen tells it"
        print(f"{'MLX alone':12} {alone}")
        print(f"{'rows':12} {_rows(standing)}")
        print(f"{'verdict':12} {_VERDICTS[estimate.verdict]}")
        print(f"{'sureness':12} {sureness(estimate, standing)}")
    return 1 if estimate.verdict == "wont_fit" else 0


def _rows(standing: Standing) -> str:
    row = f"up to {figures.count(standing.row)} tokens" if standing.row else "as long as may be"
    return f"{row}, max_seq_length; the app counts on the longest of your data"


_VERDICTS = {
    "fits": "fits",
    "tight": "tight: fits with little to spare",
    "wont_fit": "will not fit",
    "unknown": "the device's limit is not known",
}


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
        found = sorted(cache_dir().glob("models/*/config.json"))
        return found[0].parent if found else path
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


def _device(text: str) -> tuple[Kind, int | None]:
    """``metal:36GB``, ``cuda:80GB``, ``cpu`` or ``cpu:16GB``; a Mac gives MLX a share of its
    memory only."""
    from mlxft.telemetry.limits import GIB, default_working_set, machine_memory

    found = re.fullmatch(r"(metal|cuda|cpu)(?::(\d+(?:\.\d+)?)(?:GB?)?)?", text.strip(), re.I)
    if found is None:
        raise RecipeError(
            f"--device {text} is no device; write it as metal:36GB, cuda:80GB or cpu."
        )
    name, size = found[1].lower(), found[2]
    if name == "metal":
        return "metal", default_working_set(round(float(size) * GIB)) if size else None
    if name == "cuda":
        return "cuda", round(float(size) * GB) if size else None
    return "cpu", round(float(size) * GB) if size else machine_memory().total

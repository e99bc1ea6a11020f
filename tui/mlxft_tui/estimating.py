"""The command that tells a recipe's memory without a model's weights or an engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlxft.errors import ModelError, RecipeError
from mlxft.paths import cache_dir, expanded
from mlxft.recipe import Recipe
from mlxft_tui import figures

if TYPE_CHECKING:
    from mlxft.memory.estimator import Kind, MemoryEstimate

GB = 10**9


def estimate_recipe(recipe: Recipe, model: str | None, device: str | None) -> MemoryEstimate:
    """The memory of the recipe's training, on this machine or on a device named by `device`.

    `model` is a folder that holds a config.json, in place of the recipe's. Raises `ModelError`
    where there is none, and `RecipeError` for a device that can't be read.
    """
    from mlxft.memory.estimator import estimate
    from mlxft.memory.shapes import ModelShapes
    from mlxft.telemetry.limits import machine_memory

    shapes = ModelShapes.from_config(_config(model or recipe.model))
    if device is not None:
        kind, limit = _device(device)
        return estimate(shapes, recipe, kind, limit)
    machine = machine_memory()
    return estimate(shapes, recipe, machine.kind, machine.limit)


def tell(estimate: MemoryEstimate, *, as_json: bool) -> int:
    """Print parts, total, limit and verdict; returns 0 where it fits, 1 where it won't."""
    if as_json:
        figures_of = {
            **estimate.parts,
            "total": estimate.total,
            "limit": estimate.limit,
            "verdict": estimate.verdict,
            "sure": estimate.sure,
        }
        print(json.dumps(figures_of))
    else:
        for name, size in estimate.parts.items():
            print(f"{name:12} {figures.gigabytes(size):>7} GB")
        limit = figures.gigabytes(estimate.limit)
        print(f"{'total':12} {figures.gigabytes(estimate.total):>7} GB of {limit} GB")
        print(estimate.verdict.replace("wont_fit", "will not fit"))
        if not estimate.sure:
            print("The model's family is not known; its blocks are read as plain ones.")
    return 1 if estimate.verdict == "wont_fit" else 0


def _config(model: str) -> dict[str, object]:
    if not model:
        raise RecipeError("The recipe names no model; add one, or --model DIR.")
    folder = _folder(model)
    file = folder / "config.json"
    try:
        config = msgspec.json.decode(file.read_bytes())
    except OSError:
        raise ModelError(
            f"{file}: there is no config.json; give --model a folder that holds one."
        ) from None
    except msgspec.DecodeError:
        raise ModelError(f"{file}: this is not valid JSON; get the file anew.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: this is no model's config; get the file anew.")
    return config


def _folder(model: str) -> Path:
    """A model's folder: itself, the demo's import, or the newest download of a hub id."""
    path = expanded(model)
    if path.is_dir():
        return path
    if model == "demo":
        found = sorted(cache_dir().glob("**/config.json"))
        return found[0].parent if found else path
    hub = expanded("~/.cache/huggingface/hub") / f"models--{model.replace('/', '--')}"
    snapshots = sorted(hub.glob("snapshots/*/config.json"), key=lambda each: each.stat().st_mtime)
    return snapshots[-1].parent if snapshots else path


def _device(text: str) -> tuple[Kind, int | None]:
    """``metal:36GB``, ``cuda:80GB``, ``cpu`` or ``cpu:16GB``; a Mac gives MLX a share of its
    memory only."""
    from mlxft.telemetry.limits import GIB, default_working_set, machine_memory

    found = re.fullmatch(r"(metal|cuda|cpu)(?::(\d+(?:\.\d+)?)(?:GB?)?)?", text.strip(), re.I)
    if found is None:
        raise RecipeError(f"--device {text} is none; write it as metal:36GB, cuda:80GB or cpu.")
    name, size = found[1].lower(), found[2]
    if name == "metal":
        return "metal", default_working_set(round(float(size) * GIB)) if size else None
    if name == "cuda":
        return "cuda", round(float(size) * GB) if size else None
    return "cpu", round(float(size) * GB) if size else machine_memory().total

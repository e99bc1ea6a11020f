"""A local model's folder and its config.json, found without MLX or the network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlxft.errors import ModelError
from mlxft.storage.imported_models import imported_folder, is_gguf
from mlxft.storage.paths import demo_model, expanded


def local_config(model: str, base: Path | None = None) -> Mapping[str, Any]:
    """A local model's config.json; paths are relative to `base`. Raises `ModelError`."""
    file = model_folder(model, base or Path()) / "config.json"
    try:
        config = json.loads(file.read_bytes())  # Also takes Infinity, as models' own code does.
    except OSError:
        if model == "demo":
            raise ModelError(
                "demo: the demo's model has not been imported yet; run mlxft-tui demo once."
            ) from None
        if is_gguf((base or Path()) / expanded(model)):
            raise ModelError(
                f"{model}: this GGUF file has not been imported yet; opening the model imports it."
            ) from None
        raise ModelError(
            f"{file}: there is no config.json; choose a folder that has one (that file of the "
            "model's repository is enough)."
        ) from None
    except (ValueError, RecursionError):
        raise ModelError(f"{file}: this is not valid JSON; download the file again.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: this is not a model's config; download the file again.")
    return config


def model_folder(model: str, base: Path) -> Path:
    """A model's folder: its path, an import, or a Hugging Face id's newest download."""
    path = base / expanded(model)
    if path.is_dir():
        return path
    if is_gguf(path):
        try:
            return imported_folder(path)
        except OSError:
            return path
    if model == "demo":
        return demo_model()
    return snapshot_of(model) or path


def snapshot_of(model: str) -> Path | None:
    """The download of a Hugging Face id in the hub's cache: of its main branch, or the newest."""
    folder = hub_cache() / f"models--{model.replace('/', '--')}"
    try:
        main = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
        if (main / "config.json").is_file():
            return main
    except (OSError, ValueError):
        pass
    snapshots = sorted(
        folder.glob("snapshots/*/config.json"), key=lambda each: each.stat().st_mtime
    )
    return snapshots[-1].parent if snapshots else None


def hub_cache() -> Path:
    """Where huggingface_hub keeps its downloads."""
    own = os.environ.get("HF_HUB_CACHE")
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return expanded(own) if own else expanded(home) / "hub"

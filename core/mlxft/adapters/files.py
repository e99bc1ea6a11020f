"""An adapter on disk: its weights, its config, and whose layout they have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlxft.errors import ModelError

CONFIG_NAME: Final = "adapter_config.json"
WEIGHTS_NAME: Final = "adapters.safetensors"
PEFT_WEIGHTS_NAME: Final = "adapter_model.safetensors"
PEFT_PICKLE_NAME: Final = "adapter_model.bin"


@dataclass(frozen=True, kw_only=True)
class AdapterFiles:
    """An adapter's files."""

    weights: Path
    config_file: Path | None
    config: Mapping[str, Any]
    """Empty for weights without a config beside them."""

    @property
    def is_peft(self) -> bool:
        """Whether PEFT has saved it, which names and lays out weights differently."""
        return "peft_type" in self.config

    @property
    def kind(self) -> str:
        """mlx-lm's fine_tune_type."""
        return str(self.config.get("fine_tune_type") or "lora")

    @property
    def model(self) -> str:
        """The model it was trained on, as its config names it; empty if it doesn't."""
        key = "base_model_name_or_path" if self.is_peft else "model"
        return str(self.config.get(key) or "")


def adapter_files(path: Path, *, needs_config: bool = True) -> AdapterFiles:
    """The files of an adapter's folder, or of a weights file in one. Raises `ModelError`."""
    weights = weights_file(path)
    config_file = _config_beside(weights)
    if config_file is not None:
        config = _read_config(config_file)
        return AdapterFiles(weights=weights, config_file=config_file, config=config)
    if needs_config:
        raise _no_adapter(path if path.is_dir() else path.parent, f"it has no valid {CONFIG_NAME}")
    return AdapterFiles(weights=weights, config_file=None, config={})


def is_adapter(path: Path) -> bool:
    """Whether a path looks like an adapter: a folder with its files, or a weights file."""
    if path.is_dir():
        return any((path / name).is_file() for name in (CONFIG_NAME, WEIGHTS_NAME))
    return path.is_file() and path.suffix == ".safetensors"


def weights_file(path: Path) -> Path:
    """The weights in an adapter's folder, or the weights file itself. Raises `ModelError`."""
    if path.is_dir():
        return _weights_in(path)
    if not path.is_file():
        raise ModelError(f"{path}: there is no such adapter; choose a folder that has one.")
    return path


def _weights_in(folder: Path) -> Path:
    for name in (WEIGHTS_NAME, PEFT_WEIGHTS_NAME):
        if (folder / name).is_file():
            return folder / name
    if (folder / "recipe.yaml").is_file():
        raise ModelError(
            f"{folder}: there is no saved adapter yet; wait for the run's first checkpoint, or "
            "choose another run."
        )
    if (folder / PEFT_PICKLE_NAME).is_file():
        raise ModelError(
            f"{folder / PEFT_PICKLE_NAME}: weights of PEFT are read from safetensors only; save "
            "them with save_pretrained(…, safe_serialization=True)."
        )
    raise _no_adapter(folder, f"it has neither {WEIGHTS_NAME} nor {PEFT_WEIGHTS_NAME}")


def _no_adapter(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"{folder}: this is not an adapter folder: {why}; choose the folder of a run, or one that "
        "mlx_lm or PEFT has saved."
    )


def _config_beside(weights: Path) -> Path | None:
    """The config in the same folder, or in the run's whose checkpoint the file is in."""
    folder = weights.resolve().parent
    places = [folder] + ([folder.parent.parent] if folder.parent.name == "checkpoints" else [])
    found = (place / CONFIG_NAME for place in places)
    return next((each for each in found if each.is_file()), None)


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise _no_adapter(file.parent, f"it has no valid {CONFIG_NAME}")
    return _of_today(config)


def _of_today(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config in the terms of today's mlx-lm, which doesn't read those of older ones."""
    if "peft_type" in config:
        return config
    found = dict(config)
    if "num_layers" not in found and "lora_layers" in found:
        found["num_layers"] = found.pop("lora_layers")
    if "fine_tune_type" not in found and found.pop("use_dora", False):
        found["fine_tune_type"] = "dora"
    shape = found.get("lora_parameters")
    if isinstance(shape, Mapping) and "scale" not in shape:
        alpha, rank = shape.get("alpha"), shape.get("rank")
        if isinstance(alpha, int | float) and isinstance(rank, int) and rank > 0:
            kept = {key: value for key, value in shape.items() if key != "alpha"}
            found["lora_parameters"] = {**kept, "scale": alpha / rank}
    return found

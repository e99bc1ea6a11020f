"""How large an export will be, from the headers of the model's and the adapter's files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mlxft.adapters.files import weights_file
from mlxft.adapters.tensors import Tensor, tensors_of
from mlxft.errors import ModelError
from mlxft.export.types import Form, Quantize

BYTES_PER_WEIGHT: Final = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "mxfp4": 17 / 32,
    "nvfp4": 9 / 16,
    "mxfp8": 33 / 32,
}
"""Bytes of a weight in each type, with the scales of its block."""

_GROUP: Final = 64
"""Weights that share a scale and a bias."""

_BYTES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_OTHER_FILES: Final = ("*.json", "*.model", "*.txt", "*.jinja", "*.py")


def expected_bytes(model: Path, adapter: Path, form: Form, quantize: Quantize) -> int | None:
    """About how many bytes an export writes; None where a file isn't there or can't be read.

    `model` and `adapter` are their folders; `adapter` may be a weights file.
    """
    try:
        if form in ("peft", "adapter"):
            return weights_file(adapter).stat().st_size
        if form == "gguf-adapter":
            tensors = tensors_of(weights_file(adapter))
            return sum(4 * math.prod(each.shape) for each in tensors.values())
        tensors = tensors_in(model)
        if not tensors:
            return None
        others = 0 if form == "gguf" else _size_of_others(model)
        return round(_weights(tensors, model, form, quantize)) + others
    except (OSError, ModelError, ValueError):
        return None


def _weights(tensors: Mapping[str, Tensor], model: Path, form: Form, quantize: Quantize) -> float:
    if form == "mlx" and quantize.keeps:
        return sum(each.end - each.start for each in tensors.values())
    whole = float_bytes(tensors)
    kind = quantize.gguf if form == "gguf" else quantize.name
    matrix = BYTES_PER_WEIGHT.get(kind, whole)
    if quantize.bits:
        matrix = quantize.bits / 8 + 2 * whole / _GROUP
    vector = 4.0 if form == "gguf" else whole
    sizes = logical_sizes(tensors, model)
    return sum(count * (matrix if is_matrix else vector) for count, is_matrix in sizes)


def tensors_in(model: Path) -> dict[str, Tensor]:
    """All tensors of a model's folder; none where its files can't be read."""
    try:
        files = sorted(model.glob("model*.safetensors"))
        return {name: each for file in files for name, each in tensors_of(file).items()}
    except (OSError, ModelError):
        return {}


def float_bytes(tensors: Mapping[str, Tensor]) -> float:
    """The bytes of a weight that is not quantized."""
    kind = next((each.dtype for each in tensors.values() if each.dtype in _BYTES), "BF16")
    return float(_BYTES[kind])


def logical_sizes(tensors: Mapping[str, Tensor], model: Path) -> Iterator[tuple[int, bool]]:
    """The values of each array as it is unquantized, and whether it is a matrix."""
    config = json.loads((model / "config.json").read_bytes())
    general = config.get("quantization") or config.get("quantization_config") or {}
    for name, each in tensors.items():
        layer, _, part = name.rpartition(".")
        if part in ("scales", "biases") and f"{layer}.weight" in tensors:
            continue
        count = math.prod(each.shape)
        if f"{layer}.scales" in tensors:
            own = general.get(layer)
            bits = (own.get("bits") if isinstance(own, dict) else None) or general.get("bits") or 4
            count = count * 32 // int(bits)
        yield count, len(each.shape) > 1


def _size_of_others(model: Path) -> int:
    """Tokenizer, config and whatever else is copied beside the weights."""
    found = {file for each in _OTHER_FILES for file in model.glob(each)}
    return sum(file.stat().st_size for file in found)

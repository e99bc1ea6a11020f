"""Finds models and loads them into memory."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten
from mlx_lm.models.mla import MultiLinear, QuantizedMultiLinear
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.utils import dequantize_model, get_total_parameters, load_model

from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import demo, gguf
from mlxft.compute.tokenization import first_line
from mlxft.errors import ModelError
from mlxft.hub.download import download
from mlxft.hub.local_models import TOKENIZER_FILES
from mlxft.runs.events import ProgressMade
from mlxft.storage.imported_models import SUFFIX, is_gguf
from mlxft.storage.paths import expanded

DEMO = "demo"
"""The demo model's name in a recipe."""

NAMED_SHARE = 0.01
"""Share of a quantized model's weights from which those that aren't quantized are named."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory and how its weights are stored."""

    model: Any
    config: dict[str, Any]
    quantization: str
    dtype: str
    total_parameters: int

    @property
    def is_quantized(self) -> bool:
        """Whether the weights in memory are quantized."""
        return any(name.endswith(".scales") for name in named_arrays(self.model.parameters()))

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", "unknown"))

    @property
    def vocabulary(self) -> int | None:
        """The number of tokens in the vocabulary."""
        return _text_setting(self.config, "vocab_size")

    @property
    def context_length(self) -> int | None:
        """The model's longest context in tokens."""
        return _text_setting(self.config, "max_position_embeddings")


def locate(model: str, on_progress: Callable[[ProgressMade], object]) -> Path:
    """The folder of a model, downloaded or imported if necessary.

    `model` is a folder, a GGUF file, ``demo``, or a Hugging Face id. Raises `ModelError` and
    `StorageError`.
    """
    if not model.strip():
        raise ModelError(
            "No model is chosen; set model to an MLX model folder, a GGUF file, a Hugging Face id, "
            "or demo."
        )
    if model == DEMO:
        return demo.folder(on_progress)
    path = expanded(model)
    if is_gguf(path):
        return gguf.imported(path, on_progress)
    if path.exists():
        return checked(path.resolve())
    if _HUB_ID.fullmatch(model):
        return checked(download(model, on_progress))
    kind = "file" if path.suffix.lower() == SUFFIX else "folder"
    raise ModelError(
        f"{model}: this {kind} doesn't exist; set model to an MLX model folder, a GGUF file, a "
        "Hugging Face id like mlx-community/Qwen3-0.6B-4bit, or demo."
    )


def checked(path: Path) -> Path:
    """The folder, if it holds a model. Raises `ModelError` naming what is missing."""
    if not path.is_dir():
        raise ModelError(f"{path}: this is a file; choose the model's folder.")
    missing = [
        name
        for name, there in (
            ("config.json", (path / "config.json").is_file()),
            ("model*.safetensors", any(path.glob("model*.safetensors"))),
            ("tokenizer.json", any((path / name).is_file() for name in TOKENIZER_FILES)),
        )
        if not there
    ]
    if missing:
        raise ModelError(
            f"{path}: this is not an MLX model folder, {' and '.join(missing)} missing; "
            "convert a model with mlx_lm convert, or choose another folder."
        )
    _check_config(path / "config.json")
    return path


def _check_config(file: Path) -> None:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(
            f"{file}: this is not a model's configuration: it has no model_type; download the "
            "model again."
        )


def load(path: Path, trust_remote_code: bool = False, *, lazy: bool = False) -> LoadedModel:
    """Load a folder's model: as it is on a GPU, dequantized to float32 on a CPU.

    A CPU is fast in float32 only. `lazy` leaves weights on disk until they are used. Raises
    `ModelError`.
    """
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            model, config = load_model(path, lazy=True, trust_remote_code=trust_remote_code)
        loaded = as_computed(model, config)
        if not lazy:
            mx.eval(model.parameters())
    except Exception as error:  # Model code raises anything on bad files.
        raise ModelError(
            f"{path}: the model can't be loaded ({first_line(error)}); "
            "check that it is complete and that this version of mlx-lm supports it."
        ) from error
    except SystemExit as error:  # mlx-lm's olmo ends the process if a package is missing.
        reason = " ".join(printed.getvalue().split()) or "it gives no reason"
        raise ModelError(
            f"{path}: the model's code ends the process ({reason}); follow that, or choose "
            "another model."
        ) from error
    return loaded


def as_computed(model: Any, config: dict[str, Any]) -> LoadedModel:
    """A model as runs compute with it, not evaluated: as it is on a GPU, dequantized to float32 on
    a CPU."""
    total, quantization = get_total_parameters(model), _quantization(model)
    if backend.kind() == "cpu":
        quantization = _prepare_for_cpu(model, quantization)
    return LoadedModel(model, config, quantization, _dtype(model), total)


def _prepare_for_cpu(model: Any, quantization: str) -> str:
    # Scales first: unpacked in 16 bits, 8-bit weights would be rounded once more.
    model.set_dtype(mx.float32)
    if quantization != "none":
        dequantize(model)
        quantization += ", dequantized for the CPU"
    model.set_dtype(mx.float32)
    return quantization


def dequantize(model: Any) -> None:
    """Dequantize all layers, also the two kinds that mlx-lm's dequantize_model gets wrong."""
    replaced: list[tuple[str, Any]] = []
    for name, layer in model.named_modules():
        if isinstance(layer, QuantizedMultiLinear):
            weight = _unpacked(layer, layer.weight, layer.scales, layer.biases)
            heads, outputs, inputs = weight.shape
            plain: Any = MultiLinear(inputs, outputs, heads)
        elif isinstance(layer, QuantizedSwitchLinear) and layer.global_scale is not None:
            parts = zip(layer.weight, layer.scales, layer.global_scale, strict=True)
            weight = mx.stack([_unpacked(layer, w, s, None, factor) for w, s, factor in parts])
            experts, outputs, inputs = weight.shape
            plain = SwitchLinear(inputs, outputs, experts, bias="bias" in layer)
            if "bias" in layer:
                plain.bias = layer.bias
        else:
            continue
        plain.weight = weight
        replaced.append((name, plain))
    if replaced:
        model.update_modules(tree_unflatten(replaced))
    dequantize_model(model)


def _unpacked(
    layer: Any,
    weight: mx.array,
    scales: mx.array,
    biases: mx.array | None,
    factor: mx.array | None = None,
) -> mx.array:
    return mx.dequantize(
        weight,
        scales,
        biases,
        layer.group_size,
        layer.bits,
        layer.mode,
        global_scale=factor,
        dtype=mx.float32,
    )


def _quantization(model: Any) -> str:
    """How the weights are quantized, as text; most weights come first."""
    sizes: Counter[tuple[int, int]] = Counter()
    plain = 0
    for _, layer in model.named_modules():
        if "scales" in layer and hasattr(layer, "bits"):
            sizes[layer.bits, layer.group_size] += layer.weight.nbytes * 8 // layer.bits
        elif hasattr(layer, "to_quantized"):
            plain += layer.weight.size
    if not sizes:
        return "none"
    share = plain / (plain + sizes.total())
    unquantized = f", {share:.1%} of the weights unquantized" if share >= NAMED_SHARE else ""
    ordered = [shape for shape, _ in sizes.most_common()]
    bits = list(dict.fromkeys(str(each) for each, _ in ordered))
    groups = list(dict.fromkeys(str(each) for _, each in ordered))
    return f"{'- and '.join(bits)}-bit, groups of {' and '.join(groups)}{unquantized}"


def _dtype(model: Any) -> str:
    """The most frequent floating-point type of the weights."""
    sizes: dict[str, int] = {}
    for array in named_arrays(model.parameters()).values():
        if mx.issubdtype(array.dtype, mx.floating):
            name = str(array.dtype).rpartition(".")[2]
            sizes[name] = sizes.get(name, 0) + array.size
    return max(sizes, key=lambda name: sizes[name], default="unknown")


def stored_dtype(model: Any) -> mx.Dtype:
    """The most frequent floating-point type of the weights."""
    dtype: mx.Dtype = getattr(mx, _dtype(model), mx.bfloat16)
    return dtype


def _text_setting(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key) or config.get("text_config", {}).get(key)
    return int(value) if value else None

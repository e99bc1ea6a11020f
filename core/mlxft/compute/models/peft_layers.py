"""Adapters of PEFT as mlx-lm's layers: the same products from transposed matrices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear
from mlx.utils import tree_unflatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.dora import DoRAEmbedding, DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear

from mlxft.adapters.files import AdapterFiles
from mlxft.adapters.layers import AdaptedLayer, common_name
from mlxft.adapters.peft import PeftConfig, peft_config
from mlxft.compute.arrays import read_arrays
from mlxft.compute.models.trained_rows import ROWS
from mlxft.errors import ModelError

_EXPERT: Final = re.compile(r"(?P<block>.+)\.experts\.(?P<number>\d+)\.(?P<matrix>\w+)")
_EXPERT_MATRICES: Final = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
"""Mixtral's names, which mlx-lm replaces."""

_LINEAR: Final = (Linear, QuantizedLinear)
_EMBEDDING: Final = (Embedding, QuantizedEmbedding)
_SWITCH: Final = (SwitchLinear, QuantizedSwitchLinear)


@dataclass(frozen=True, kw_only=True)
class PeftLayer:
    """A layer of the model with the arrays that PEFT has trained for it, in mlx-lm's shapes."""

    name: str
    module: Any
    """The layer itself, not what an adapter has put around it."""
    scale: float
    a: mx.array
    b: mx.array
    m: mx.array | None

    @property
    def arrays(self) -> list[tuple[str, mx.array]]:
        """The arrays under mlx-lm's names."""
        parts = {"lora_a": self.a, "lora_b": self.b, "m": self.m}
        return [(f"{self.name}.{part}", each) for part, each in parts.items() if each is not None]


def read_peft(
    model: Any, files: AdapterFiles, layers: Sequence[AdaptedLayer]
) -> tuple[PeftLayer, ...]:
    """An adapter's layers, found in a model with or without adapters.

    Raises `ModelError` naming a tensor or a layer that the model has no place for.
    """
    assert files.config_file is not None
    peft = peft_config(files.config, files.config_file)
    if odd := next((each for each in layers if each.rank != peft.rank_of(each.path)), None):
        raise ModelError(
            f"{files.config_file}: it gives {odd.name} the rank {peft.rank_of(odd.path)}, its "
            f"weights have {odd.rank}; copy both files of this adapter again."
        )
    arrays = read_arrays(files.weights)
    modules = _modules(model)
    _refuse_others(files, peft, layers, arrays, modules)
    grouped: dict[str, list[AdaptedLayer]] = {}
    for layer in layers:
        grouped.setdefault(_target(layer.name, modules), []).append(layer)
    return tuple(
        _read(files, peft, each, arrays, modules, target) for target, each in grouped.items()
    )


def read_whole(model: Any, files: AdapterFiles) -> dict[str, mx.array]:
    """The weights of embedding and head that were trained whole, named as trained rows are here.

    Raises `ModelError` for a layer that the model lacks, or that is embedding and head in one.
    """
    assert files.config_file is not None
    peft = peft_config(files.config, files.config_file)
    modules = _modules(model)
    found: dict[str, mx.array] = {}
    for name, array in read_arrays(files.weights).items() if peft.whole else ():
        layer = _whole_layer(name, peft)
        if layer is None:
            continue
        if layer not in modules or "lm_head" not in modules:
            raise ModelError(
                f"{files.weights}: it has a trained {layer}, which this model lacks or uses for "
                "input and output at once; merge it into its model with PEFT's merge_and_unload, "
                "and convert that with mlx_lm convert."
            )
        found[f"{modules[layer][0]}.{ROWS}"] = array.astype(mx.float32)
    return found


def _whole_layer(name: str, peft: PeftConfig) -> str | None:
    """The common name of the layer whose whole weight an array is; None for another array."""
    path, _, part = name.replace(".modules_to_save.default", "").rpartition(".")
    return common_name(path) if part == "weight" and peft.is_whole(path) else None


def put_on(model: Any, layers: Iterable[PeftLayer]) -> list[tuple[str, mx.array]]:
    """Put layers on a model without adapters; returns the arrays to load into them."""
    found = tuple(layers)
    model.update_modules(tree_unflatten([(each.name, _wrapped(each)) for each in found]))
    return [array for each in found for array in each.arrays]


def _modules(model: Any) -> dict[str, tuple[str, Any]]:
    """The model's layers by common name, each with its own name and without its adapter."""
    found: dict[str, tuple[str, Any]] = {}
    for name, module in model.named_modules():
        inner = next((module[key] for key in ("linear", "embedding") if key in module), module)
        if isinstance(inner, _LINEAR + _EMBEDDING + _SWITCH):
            found.setdefault(common_name(name), (name, inner))
    return found


def _target(name: str, modules: Mapping[str, tuple[str, Any]]) -> str:
    """The common name of the layer that one of PEFT's belongs to; experts share one."""
    if name in modules or (found := _EXPERT.fullmatch(name)) is None:
        return name
    matrix = _EXPERT_MATRICES.get(found["matrix"], found["matrix"])
    return f"{found['block']}.switch_mlp.{matrix}"


def _read(
    files: AdapterFiles,
    peft: PeftConfig,
    parts: Sequence[AdaptedLayer],
    arrays: Mapping[str, mx.array],
    modules: Mapping[str, tuple[str, Any]],
    target: str,
) -> PeftLayer:
    first = parts[0]
    if target not in modules:
        named = f", {files.model}" if files.model else ""
        raise ModelError(
            f"{files.weights}: this adapter is of another model, or of a layer that mlx-lm lays "
            f"out differently: it has {first.name}, which this model doesn't; choose the model it "
            f"was trained on{named}."
        )
    name, module = modules[target]
    if isinstance(module, _SWITCH):
        a, b, scale = _experts(files, peft, parts, arrays, module)
        return PeftLayer(name=name, module=module, scale=scale, a=a, b=b, m=None)
    if first.is_embedding and "lm_head" not in modules:
        raise ModelError(
            f"{files.weights}: PEFT adapts {first.name} for the input only, mlx-lm for the output "
            "too, since this model uses it for both; train an adapter without it."
        )
    m = arrays[first.m].reshape(-1) if first.m and peft.dora else None
    return PeftLayer(
        name=name,
        module=module,
        scale=peft.scale_of(first.path),
        a=arrays[first.a].T,
        b=arrays[first.b].T,
        m=m,
    )


def _experts(
    files: AdapterFiles,
    peft: PeftConfig,
    parts: Sequence[AdaptedLayer],
    arrays: Mapping[str, mx.array],
    module: Any,
) -> tuple[mx.array, mx.array, float]:
    """The matrices of all experts of a layer, stacked, and their scale."""
    matches = [_EXPERT.fullmatch(each.name) for each in parts]
    numbered = {
        int(match["number"]): part for match, part in zip(matches, parts, strict=True) if match
    }
    scales = {peft.scale_of(each.path) for each in parts}
    ranks = {each.rank for each in parts}
    is_whole = sorted(numbered) == list(range(module.num_experts))
    if not is_whole or len(scales) > 1 or len(ranks) > 1:
        raise ModelError(
            f"{files.weights}: mlx-lm adapts all {module.num_experts} experts of a layer alike, "
            f"this adapter doesn't those beside {parts[0].name}; choose another one."
        )
    ordered = [numbered[number] for number in range(module.num_experts)]
    return (
        mx.stack([arrays[each.a] for each in ordered]),
        mx.stack([arrays[each.b] for each in ordered]),
        scales.pop(),
    )


def _refuse_others(
    files: AdapterFiles,
    peft: PeftConfig,
    layers: Iterable[AdaptedLayer],
    arrays: Mapping[str, mx.array],
    modules: Mapping[str, tuple[str, Any]],
) -> None:
    """Raise `ModelError` for a tensor beside the layers', unless it is the model's own."""
    used = {name for each in layers for name in (each.a, each.b, each.m)}
    for name, array in arrays.items():
        is_known = name in used or _whole_layer(name, peft) is not None
        if not is_known and not _is_own(name, array, modules):
            raise ModelError(
                f"{files.weights}: {name} has no counterpart in mlx-lm's LoRA layers; merge the "
                "adapter into its model with PEFT's merge_and_unload, and convert that with mlx_lm "
                "convert."
            )


def _is_own(name: str, array: mx.array, modules: Mapping[str, tuple[str, Any]]) -> bool:
    """Whether a tensor is a weight of the model as it is; PEFT may save embeddings, too."""
    layer = common_name(name.removesuffix(".weight").removesuffix(".base_layer"))
    if layer not in modules or not name.endswith(".weight"):
        return False
    weight = modules[layer][1].weight
    if "scales" in modules[layer][1]:
        return bool(array.shape[0] == weight.shape[0])
    same = array.shape == weight.shape
    return same and bool(mx.allclose(array.astype(weight.dtype), weight, 1e-2, 1e-3))


def _wrapped(layer: PeftLayer) -> Any:
    """The layer with an adapter of its rank and scale around it."""
    module, dora = layer.module, layer.m is not None
    if isinstance(module, _SWITCH):
        kind: Any = LoRASwitchLinear
    elif isinstance(module, _EMBEDDING):
        kind = DoRAEmbedding if dora else LoRAEmbedding
    else:
        kind = DoRALinear if dora else LoRALinear
    rank = layer.a.shape[-2] if isinstance(module, _SWITCH) else layer.a.shape[-1]
    return kind.from_base(module, r=rank, scale=layer.scale, dropout=0.0)

"""How a run computes attention and products with quantized weights, and why.

The recipe may decide. Otherwise a table of what is known of the backend does and, where nothing is
known or where the device decides, a short measurement that is made once for each device and version
of MLX and kept in the state folder. Without one the table holds.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import mlx.core as mx

from mlxft.compute import backend
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import measured_operations, recurrent_layers
from mlxft.compute.training.attention import (
    BLOCK,
    AttentionChoice,
    Backend,
    known_choice,
)
from mlxft.compute.training.quantized_products import (
    RULES,
    Kind,
    ProductRules,
    UnpackingRule,
    kind_of,
)
from mlxft.errors import StorageError
from mlxft.recipe import Recipe
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import state_dir

SECONDS: Final = 20.0
"""After this time no further kind of weights is measured at a run's start."""

_FILE: Final = "operations.json"

_KERNELS: Final = "kernels"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The ways of a run's operations, and a sentence about each."""

    attention: AttentionChoice
    products: ProductRules
    compiled: bool = True
    reasons: tuple[str, ...] = ()
    kernels: str | None = None
    """What `remember_kernels` is to keep once a compiled step is done; None if nothing is."""


def known(on: Backend) -> Choices:
    """The choices by the tables alone."""
    return Choices(attention=known_choice(on), products=ProductRules(otherwise=RULES[on]))


def chosen(recipe: Recipe, loaded: LoadedModel, on: Backend | None = None) -> Choices:
    """A run's choices; may measure for some seconds. `on` is this process's backend by default."""
    own = on or backend.kind()
    with backend.beside_training():
        attention, why_attention = _attention(recipe, loaded, own)
        products, why_products = _products(recipe, loaded, own)
    compiled, why_compiled, kernels = _compiled(recipe, loaded, own)
    return Choices(
        attention=attention,
        products=products,
        compiled=compiled,
        reasons=(*why_attention, *why_products, *why_compiled),
        kernels=kernels,
    )


def remember_kernels(kernels: str) -> None:
    """Keep that this machine has the kernels of such a model's compiled steps."""
    _remembered(kernels, lambda: True)


def are_made(kernels: str) -> bool:
    """Whether this machine has them; all are forgotten where their folder is gone."""
    if not backend.has_kernels():
        _forget_kernels()
    return bool(_remembered(kernels, lambda: None, may_measure=False))


def _forget_kernels() -> None:
    kept = _kept()
    others = {key: found for key, found in kept.items() if f"| {_KERNELS} " not in key}
    if others != kept:
        with contextlib.suppress(StorageError, OSError):
            _keep(others)


def _attention(
    recipe: Recipe, loaded: LoadedModel, on: Backend
) -> tuple[AttentionChoice, list[str]]:
    choice = replace(known_choice(on), wanted=recipe.attention)
    blocks = f"blocks of up to {BLOCK[on]} queries"
    if recipe.attention != "auto":
        how = "MLX's own" if recipe.attention == "backend" else blocks
        return choice, [f"Attention: {how}, as the recipe says."]
    fused = choice.fused
    if fused is None:
        why = "this backend's gradient would keep the scores of all pairs of tokens"
        return choice, [f"Attention: {blocks}, because {why}."]
    size = _head_size(loaded.config)
    if fused.measured or (size, size) not in fused.heads:
        return choice, [f"Attention: MLX's own where it keeps no scores ({fused.source})."]
    kept = _remembered(f"attention {size}", lambda: measured_operations.keeps_scores(size or 1))
    if kept:
        why = f"MLX's own keeps those of all pairs for heads of {size} (measured on this device)"
        return replace(choice, fused=None), [f"Attention: {blocks}; {why}."]
    source = fused.source if kept is None else f"measured on this device, heads of {size}"
    return choice, [f"Attention: MLX's own where it keeps no scores ({source})."]


def _compiled(
    recipe: Recipe, loaded: LoadedModel, on: Backend
) -> tuple[bool, list[str], str | None]:
    """Whether a step's operations are joined to kernels of their own, why, and what to remember.

    With mlx 0.32.4 CUDA's compiler takes about 3 s for each (measured beside an H200), and a delta
    net needs 50 to 70 of them. They are kept in a folder.
    """
    if recipe.compile_steps == "never":
        return False, ["Steps: not compiled, as the recipe says."], None
    if on != "cuda" or not recurrent_layers.are_used_by(loaded.model):
        return True, [], None
    kernels = _kernels(recipe, loaded)
    if are_made(kernels):
        return True, ["Steps: compiled; this machine has the kernels."], kernels
    if recipe.compile_steps == "always":
        return True, ["Steps: compiled; the first one may take minutes, once a machine."], kernels
    why = "CUDA's compiler takes minutes for recurrent layers, once a machine"
    return False, [f"Steps: not compiled yet: {why}."], kernels


def _kernels(recipe: Recipe, loaded: LoadedModel) -> str:
    """What decides which kernels a compiled step of recurrent layers needs, in words."""
    rows = "packed" if recipe.packing else "separate"
    blocks = "recomputed" if recipe.grad_checkpoint else "kept"
    weights = loaded.quantization or "dense"
    ways = (recipe.fine_tune_type, recipe.loss, rows, blocks, loaded.dtype, weights)
    return " ".join((_KERNELS, loaded.model_type, *ways))


def _head_size(config: Mapping[str, Any]) -> int | None:
    """The channels of a head of attention by a config.json."""
    inner = config.get("text_config")
    language = inner if isinstance(inner, Mapping) else config
    size, hidden, heads = (
        language.get(each) for each in ("head_dim", "hidden_size", "num_attention_heads")
    )
    if isinstance(size, int):
        return size
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) else None


def _products(recipe: Recipe, loaded: LoadedModel, on: Backend) -> tuple[ProductRules, list[str]]:
    rules = ProductRules(otherwise=RULES[on])
    kinds = _kinds(loaded.model)
    if on == "cpu" or not kinds:
        return rules, []
    if recipe.quantized_products != "auto":
        least = 1 if recipe.quantized_products == "unpacked" else None
        rule = UnpackingRule(forward=least, backward=least, experts=least, source="the recipe")
        how = "unpacked first" if least else "packed"
        return ProductRules(otherwise=rule), [f"Quantized products: {how}, as the recipe says."]
    started, by_kind, reasons = time.monotonic(), {}, []
    for kind, experts in kinds.items():
        late = time.monotonic() - started > SECONDS
        mode, bits, group = kind
        found = _remembered(
            f"products {mode} {bits} {group}{' experts' if experts else ''}",
            lambda kind=kind, experts=experts: measured_operations.crossovers(kind, experts),  # type: ignore[misc]
            may_measure=not late,
        )
        rule = rules.otherwise
        if found is not None:
            measured = {name: _below(least, getattr(rule, name)) for name, least in found.items()}
            rule = UnpackingRule(**measured, source="measured on this device")
        by_kind[kind] = rule
        reasons.append(_sentence(kind, rule))
    return replace(rules, by_kind=by_kind), reasons


def _below(measured: int | None, known: int | None) -> int | None:
    """From how many tokens on to unpack: what is known holds for fewer than were measured, where
    all that were agree."""
    if measured == measured_operations.TOKENS[0] and known is not None:
        return min(known, measured)
    return measured


def _kinds(model: Any) -> dict[Kind, bool]:
    """The kinds of the model's quantized weights, and whether experts are among them."""
    found: dict[Kind, bool] = {}
    for _, module in model.named_modules():
        if "scales" in module and hasattr(module, "bits"):
            kind = kind_of(
                {name: getattr(module, name, None) for name in ("mode", "bits", "group_size")}
            )
            found[kind] = found.get(kind, False) or module["weight"].ndim == 3
    return found


def _sentence(kind: Kind, rule: UnpackingRule) -> str:
    """A rule in words."""

    def since(least: int | None) -> str:
        return "packed" if least is None else f"unpacked from {least} tokens on"

    mode, bits, group = kind
    name = f"{bits} bits, group {group}" if mode == "affine" else mode
    experts = f", experts {since(rule.experts)}" if rule.experts is not None else ""
    return (
        f"Quantized products ({name}): forward {since(rule.forward)}, backward "
        f"{since(rule.backward)}{experts} ({rule.source})."
    )


def _remembered(what: str, measure: Callable[[], Any], *, may_measure: bool = True) -> Any:
    """A measurement of this device and version of MLX, made now if it wasn't; None if it fails."""
    versions = backend.versions()
    key = f"{backend.device_name()} | mlx {versions['mlx']} | {what}"
    kept = _kept()
    if key in kept or not may_measure:
        return kept.get(key)
    try:
        found = measure()
    except (RuntimeError, ValueError, TypeError, MemoryError):  # The table still holds.
        return None
    finally:
        mx.clear_cache()
    with contextlib.suppress(StorageError, OSError):
        _keep({**kept, key: found})
    return found


def _kept() -> dict[str, Any]:
    """All that was measured on this machine."""
    try:
        kept = json.loads((state_dir() / _FILE).read_text())
    except (StorageError, OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(found: Mapping[str, Any]) -> None:
    write_atomically(state_dir() / _FILE, json.dumps(found, indent=1).encode())

"""A model to choose: what it is, whether it can be trained, and whether it fits this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from mlxft.errors import ModelError
from mlxft.hub.families import refused_family
from mlxft.memory.estimator import Verdict, estimate
from mlxft.memory.fitted import BackendKind
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe

Place = Literal["demo", "cache", "folder", "gguf", "hub"]
"""Imported for the demo, in the hub's cache, in a folder, in a GGUF file, or on the hub alone."""

_CONTEXT_KEYS: Final = (
    *("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions", "n_ctx"),
    *("max_seq_len", "model_max_length"),
)
_DTYPES: Final = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a list; sizes in bytes, None where something isn't known."""

    name: str
    """What a recipe calls it."""
    place: Place
    folder: str | None = None
    size: int | None = None
    """On disk, or of the download."""
    family: str = ""
    parameters: int | None = None
    quantization: str = ""
    context: int | None = None
    """Tokens of its longest context."""
    hindrance: str = ""
    """Why it can't be trained as it is, or empty."""
    incomplete: bool = False
    """Whether that is because of files, which a download may complete."""
    memory: int | None = None
    """What a run with the present recipe needs."""
    verdict: Verdict = "unknown"
    downloads: int | None = None
    likes: int | None = None
    updated: str = ""
    """The day of the latest change on the hub."""
    locked: Literal["", "gated", "private"] = ""

    @property
    def is_usable(self) -> bool:
        """Whether a run with the present recipe may work."""
        return not self.hindrance and self.verdict != "wont_fit"


@dataclass(frozen=True)
class Machine:
    """What a model is judged by: the device, its memory in bytes, and the present recipe."""

    kind: BackendKind
    limit: int | None
    recipe: Recipe


def this_machine(recipe: Recipe) -> Machine:
    """This machine with a recipe."""
    from mlxft.telemetry.limits import machine_memory

    memory = machine_memory()
    return Machine(memory.kind, memory.limit, recipe)


def judged(
    listed: ListedModel, config: Mapping[str, Any], machine: Machine, incomplete: str = ""
) -> ListedModel:
    """The model with all that its config.json says of it; `incomplete` says what is missing."""
    family = str(config.get("model_type") or "")
    refused = refused_family(config)
    changes: dict[str, Any] = {
        "family": family,
        "hindrance": refused or incomplete,
        "incomplete": bool(incomplete and not refused),
        "context": _context(config),
        "quantization": _stored_as(config),
    }
    try:
        shapes = _shapes(json.dumps(config))
        expected = estimate(shapes, machine.recipe, machine.kind, machine.limit)
    except ModelError:
        pass
    else:
        changes |= {
            "parameters": shapes.parameters,
            "memory": expected.total,
            "verdict": expected.verdict,
        }
    return msgspec.structs.replace(listed, **changes)


@lru_cache(maxsize=1024)
def _shapes(config: str) -> ModelShapes:
    """The shapes of a config.json, which take most of the time of a list."""
    return ModelShapes.from_config(json.loads(config))


def _context(config: Mapping[str, Any]) -> int | None:
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            values = (part.get(key) for key in _CONTEXT_KEYS)
            found = next((each for each in values if isinstance(each, int) and each > 0), None)
            if found is not None:
                return found
    return None


def _stored_as(config: Mapping[str, Any]) -> str:
    """How most weights are stored: 4-bit, mxfp4, bf16."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, Mapping) else {}):
        for key in ("quantization", "quantization_config"):
            found = part.get(key)
            if isinstance(found, Mapping):
                mode = found.get("mode") or found.get("quant_method") or "affine"
                bits = found.get("bits")
                return f"{bits}-bit" if mode == "affine" and bits else str(mode)
        name = str(part.get("torch_dtype") or part.get("dtype") or "").rpartition(".")[2]
        if name:
            return _DTYPES.get(name, name)
    return ""


Order = Literal["best", "name", "size", "parameters", "memory"]
ORDERS: Final[tuple[Order, ...]] = ("best", "name", "size", "parameters", "memory")


def in_order(models: Sequence[ListedModel], order: Order) -> list[ListedModel]:
    """Models in an order; `best` has those first that can be trained here, as they come."""
    if order == "best":
        return sorted(models, key=lambda each: not each.is_usable)
    if order == "name":
        return sorted(models, key=lambda each: each.name.casefold())

    def amount(each: ListedModel) -> tuple[bool, int]:
        value: int | None = getattr(each, order)
        return value is None, value or 0

    return sorted(models, key=amount)


def with_text(models: Sequence[ListedModel], text: str) -> list[ListedModel]:
    """The models whose name, family or quantization has each word of a text."""
    words = text.casefold().split()
    return [
        each
        for each in models
        if all(
            word in f"{each.name} {each.family} {each.quantization}".casefold() for word in words
        )
    ]

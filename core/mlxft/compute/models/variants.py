"""One model in memory that switches between its base and adapters, sharing the weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from mlxft.adapters.files import weights_file
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters, loading
from mlxft.compute.models.loading import LoadedModel


@dataclass(frozen=True, eq=False)
class Variant:
    """What differs from the base: adapter layers, or changed arrays with the base's own."""

    layers: tuple[tuple[str, Any], ...] = ()
    arrays: tuple[tuple[str, mx.array], ...] = ()
    base_arrays: tuple[tuple[str, mx.array], ...] = ()


BASE = Variant()
"""The model without an adapter."""


class Variants:
    """Switches a model in memory between its variants, even between two tokens.

    A LoRA or DoRA layer holds its base layer, so both use the same arrays; of a full fine-tune only
    the originals of changed arrays are kept.
    """

    def __init__(self, loaded: LoadedModel, present: Variant = BASE) -> None:
        self.loaded = loaded
        self.present = present
        self._saved: dict[Path, tuple[int, Variant]] = {}

    def use(self, variant: Variant) -> None:
        """Switch to this variant, in the model's current mode."""
        if variant is self.present:
            return
        model, before = self.loaded.model, self.present
        _set_layers(model, [(name, adapters.base_of(layer)) for name, layer in before.layers])
        model.load_weights(list(before.base_arrays), strict=False)
        _set_layers(model, list(variant.layers))
        model.load_weights(list(variant.arrays), strict=False)
        self._set_mode(variant)
        self.present = variant

    def _set_mode(self, variant: Variant) -> None:
        """Layers that were detached when the mode was set would still apply dropout."""
        mode = self.loaded.model.training
        for _, layer in variant.layers:
            if layer.training != mode:
                layer.train(mode)

    def saved(self, adapter: Path) -> tuple[Variant, bool]:
        """The variant of an adapter on disk, and whether it had to be read.

        `adapter` is a run's folder, or an adapter file in it. Raises `ModelError`.
        """
        written = _written(adapter)
        known = self._saved.get(adapter)
        if known is not None and known[0] == written:
            return known[1], False
        variant = self._read(adapter)
        self._saved[adapter] = (written, variant)
        return variant, True

    def forget_all_but(self, paths: Collection[Path]) -> None:
        """Free the memory of other adapters."""
        self._saved = {path: held for path, held in self._saved.items() if path in paths}

    def _read(self, adapter: Path) -> Variant:
        self.use(BASE)
        model = self.loaded.model
        before = named_arrays(model.parameters())
        try:
            changed = adapters.load_saved(self.loaded, adapter)
        except Exception:
            self.present = Variant(tuple(adapters.adapted(model)))
            self.use(BASE)
            raise
        self.present = _variant(model, changed, before)
        return self.present


def of_training(
    loaded: LoadedModel, trained: Collection[str], path: Path, trust_remote_code: bool
) -> Variants:
    """The variants of a model in training: `present` is the model as it is now.

    `trained` are the names of the trained parameters. The originals of a full fine-tune are read
    lazily from the model's folder, so that a run doesn't keep two copies.
    """
    originals: dict[str, mx.array] = {}
    if trained and not adapters.adapted(loaded.model):
        fresh = loading.load(path, trust_remote_code, lazy=True).model
        originals = named_arrays(fresh.parameters())
    return Variants(loaded, _variant(loaded.model, trained, originals))


def _variant(model: Any, changed: Collection[str], before: dict[str, mx.array]) -> Variant:
    """The model's current state; `before` has the originals of its own changed arrays."""
    layers = tuple(adapters.adapted(model))
    if layers:
        return Variant(layers)
    now = named_arrays(model.parameters())
    return Variant(
        (),
        tuple((name, now[name]) for name in changed),
        tuple((name, before[name]) for name in changed),
    )


def _set_layers(model: Any, layers: list[tuple[str, Any]]) -> None:
    if layers:
        model.update_modules(tree_unflatten(layers))


def _written(adapter: Path) -> int:
    """When the adapter was last written. Raises `ModelError` if there is none."""
    return weights_file(adapter).stat().st_mtime_ns

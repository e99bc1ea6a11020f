"""Dropout that depends only on the step's key and the layer.

MLX's own draws the generator's next numbers, so a checkpointed block drops other values when it is
recomputed than in its forward pass, and its gradients are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.dropout import Dropout

from mlxft.compute.training.place import Place, drawn


class StepKeys:
    """The random keys of the current step, one per dropout layer of a model."""

    def __init__(self, model: Any) -> None:
        """Replace the model's dropout layers by layers that take their keys from here."""
        found = [
            (module, name, child.kept if isinstance(child, KeyedDropout) else child._p_1)
            for _, module in model.named_modules()
            for name, child in module.children().items()
            if isinstance(child, Dropout | KeyedDropout)
        ]
        self.drops = any(kept < 1 for _, _, kept in found)
        """Whether any layer drops values."""
        self._count = len(found)
        self._place: Place | None = None
        self._keys = mx.zeros((self._count, 2), mx.uint32)
        for number, (module, name, kept) in enumerate(found):
            module[name] = KeyedDropout(kept, self, number)

    def begin(self, key: mx.array, place: Place | None = None) -> None:
        """Start a step with this key, for rows at this place in the batch."""
        self._place = place
        if self._count:
            self._keys = mx.random.split(key, self._count)

    def mask(self, number: int, kept: float, shape: Sequence[int]) -> mx.array:
        """What a layer keeps of an input of this shape."""
        key = self._keys[number]

        def draw(shape: Sequence[int]) -> mx.array:
            return mx.random.bernoulli(kept, shape, key=key)

        return drawn(draw, shape, self._place)


@contextmanager
def without_dropout(modules: Iterable[tuple[str, Any]]) -> Iterator[None]:
    """Within this those of the named modules that drop values keep all."""
    found = [(each, each.kept) for _, each in modules if isinstance(each, KeyedDropout)]
    for each, _ in found:
        each.kept = 1.0
    try:
        yield
    finally:
        for each, kept in found:
            each.kept = kept


class KeyedDropout(Module):
    """Zeroes random values of its input in training and scales the rest to the same mean."""

    def __init__(self, kept: float, keys: StepKeys, number: int) -> None:
        """`kept` is the probability of keeping a value, `number` the layer's index in `keys`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept = kept
        self._keys, self._number = keys, number

    def __call__(self, x: mx.array) -> mx.array:
        if self.kept == 1 or not self.training:
            return x
        mask = self._keys.mask(self._number, self.kept, x.shape)
        return mask * x * (1 / self.kept)

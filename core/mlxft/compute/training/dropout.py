"""Dropout as a function of the step's key and the layer alone.

MLX's own takes the generator's next numbers, so a block that is computed again for its backward
pass drops other values than it dropped on the way forward, and its gradients are wrong.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.dropout import Dropout


class StepKeys:
    """The random keys of the step at hand, one for each dropout layer of a model."""

    def __init__(self, model: Any) -> None:
        """Put layers that take their key from here in place of the model's dropout layers."""
        found = [
            (module, name, child.kept if isinstance(child, KeyedDropout) else child._p_1)
            for _, module in model.named_modules()
            for name, child in module.children().items()
            if isinstance(child, Dropout | KeyedDropout)
        ]
        self._count = len(found)
        self._keys = mx.zeros((self._count, 2), mx.uint32)
        for number, (module, name, kept) in enumerate(found):
            module[name] = KeyedDropout(kept, self, number)

    def begin(self, key: mx.array) -> None:
        """Start a step whose random numbers are those of this key."""
        if self._count:
            self._keys = mx.random.split(key, self._count)

    def of(self, number: int) -> mx.array:
        """The key of a layer."""
        return self._keys[number]


class KeyedDropout(Module):
    """Zeroes values of its input in training; what it keeps is scaled to the same expectation."""

    def __init__(self, kept: float, keys: StepKeys, number: int) -> None:
        """`kept` is the probability of a value to stay, `number` the layer's in `keys`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept = kept
        self._keys, self._number = keys, number

    def __call__(self, x: mx.array) -> mx.array:
        if self.kept == 1 or not self.training:
            return x
        mask = mx.random.bernoulli(self.kept, x.shape, key=self._keys.of(self._number))
        return mask * x * (1 / self.kept)

"""Blocks that keep no activations for the backward pass but compute them again in it.

`mx.checkpoint` lets a block be computed again as soon as it was computed once. Nothing then keeps
MLX from doing so for several blocks at once, nor, in a compiled step, from keeping what it makes
of frozen weights alone, as DoRA's unpacked matrices. Here all that a block reads waits for the
gradient of its outputs, so that one block is worked on after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map, tree_unflatten

from mlxft.compute.arrays import named_arrays

_Call = Callable[..., Any]


@contextmanager
def checkpointed(layers: list[Any]) -> Iterator[None]:
    """Let these blocks keep nothing but their inputs.

    Their classes are changed, since a call looks its method up there, and changed back at the end.
    """
    classes = {type(layer) for layer in layers}
    own = {each: each.__dict__.get("__call__") for each in classes}
    for each in classes:
        each.__call__ = _checkpointed(each.__call__)
    try:
        yield
    finally:
        for each, call in own.items():
            if call is None:
                del each.__call__
            else:
                each.__call__ = call


@dataclass(frozen=True)
class _Place:
    """Where an array was in a tree: its number among the tree's arrays."""

    number: int


def _apart(tree: Any) -> tuple[list[mx.array], Any]:
    """The arrays of a tree, and the tree with places where they were.

    Masks stay: all blocks share them, and a CPU's attention knows them by identity.
    """
    arrays: list[mx.array] = []

    def take(leaf: Any) -> Any:
        if not isinstance(leaf, mx.array) or leaf.dtype == mx.bool_:
            return leaf
        arrays.append(leaf)
        return _Place(len(arrays) - 1)

    return arrays, tree_map(take, tree)


def _together(arrays: Sequence[mx.array], tree: Any) -> Any:
    """The tree with arrays at their places."""
    return tree_map(lambda leaf: arrays[leaf.number] if isinstance(leaf, _Place) else leaf, tree)


def _checkpointed(call: _Call) -> _Call:
    def checkpointed_call(layer: Any, *arguments: Any, **options: Any) -> Any:
        given, places = _apart((arguments, options))
        return _Block(call, layer, places)(given)

    return checkpointed_call


class _Block:
    """One call of a block: a function of its trained weights and the arrays given to it."""

    def __init__(self, call: _Call, layer: Any, places: Any) -> None:
        self._call, self._layer, self._places = call, layer, places
        self._trained = named_arrays(layer.trainable_parameters())
        self._frozen = {
            name: array
            for name, array in named_arrays(layer.parameters()).items()
            if name not in self._trained
        }
        self._results: Any = None

    def __call__(self, given: list[mx.array]) -> Any:
        function: Any = mx.custom_function(self._forward)
        function.vjp(self._backward)
        outputs = function(*self._trained.values(), *given)
        return _together(outputs, self._results)

    def _forward(self, *inputs: mx.array) -> list[mx.array]:
        return self._computed(inputs, {})

    def _backward(self, inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        after = mx.depends([*inputs, *self._frozen.values()], list(cotangents))
        frozen = dict(zip(self._frozen, after[len(inputs) :], strict=True))
        reals = [at for at, each in enumerate(inputs) if mx.issubdtype(each.dtype, mx.floating)]

        def again(*values: mx.array) -> list[mx.array]:
            changed = after[: len(inputs)]
            for at, value in zip(reals, values, strict=True):
                changed[at] = value
            return self._computed(changed, frozen)

        _, gradients = mx.vjp(again, [after[at] for at in reals], list(cotangents))
        found = dict(zip(reals, gradients, strict=True))
        return tuple(found.get(at, mx.zeros_like(each)) for at, each in enumerate(inputs))

    def _computed(self, inputs: Sequence[mx.array], frozen: dict[str, mx.array]) -> list[mx.array]:
        """The block's outputs from these inputs, its frozen weights being these where given."""
        trained = dict(zip(self._trained, inputs, strict=False))
        arguments, options = _together(inputs[len(trained) :], self._places)
        before = self._layer.parameters()
        self._layer.update(tree_unflatten([*trained.items(), *frozen.items()]))
        try:
            outputs, self._results = _apart(self._call(self._layer, *arguments, **options))
        finally:
            self._layer.update(before)
        return outputs

"""Gradient checkpointing: blocks keep only their inputs and are recomputed in the backward pass.

With `mx.checkpoint` nothing keeps MLX from recomputing several blocks at once, nor, in a compiled
step, from keeping what depends on frozen weights alone, such as DoRA's dequantized matrices. Here
everything a block reads depends on the gradient of its outputs, and the gradient of its inputs on
those of its weights, so blocks are recomputed one by one and leave nothing behind. What a block
leaves in an object for later blocks, such as keys and values in a cache, are outputs too, and
inputs of those that read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from mlxft.compute.arrays import named_arrays
from mlxft.compute.training.partial_gradients import gradients_by

_Call = Callable[..., Any]


@contextmanager
def checkpointed(layers: list[Any]) -> Iterator[None]:
    """Make these blocks keep only their inputs.

    The method is replaced on their classes, where a call looks it up, and restored at the end.
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
class _ArrayIndex:
    """Stands for an array in a tree: its index among the tree's arrays."""

    number: int


def _split(tree: Any) -> tuple[list[mx.array], Any]:
    """The arrays of a tree, and the tree with indices in their place.

    Masks stay in the tree: all blocks share them, and a CPU's attention knows them by identity.
    """
    arrays: list[mx.array] = []

    def take(leaf: Any) -> Any:
        if not isinstance(leaf, mx.array) or leaf.dtype == mx.bool_:
            return leaf
        arrays.append(leaf)
        return _ArrayIndex(len(arrays) - 1)

    return arrays, tree_map(take, tree)


def _joined(arrays: Sequence[mx.array], tree: Any) -> Any:
    """The tree with the arrays back in place of their indices."""

    def array_of(leaf: Any) -> Any:
        return arrays[leaf.number] if isinstance(leaf, _ArrayIndex) else leaf

    return tree_map(array_of, tree)


def _checkpointed(call: _Call) -> _Call:
    def checkpointed_call(layer: Any, *arguments: Any, **options: Any) -> Any:
        objects = _objects((arguments, options))
        inputs, tree = _split((arguments, options, [_state(each) for each in objects]))
        return _BlockCall(call, layer, tree, objects)(inputs)

    return checkpointed_call


def _objects(tree: Any) -> list[Any]:
    """The objects that a block is given and may write into, and those that they hold."""
    found: dict[int, Any] = {}
    waiting = [tree]
    while waiting:
        leaves: Any = tree_flatten(waiting.pop())
        for _, leaf in leaves:
            if hasattr(leaf, "__dict__") and not callable(leaf) and id(leaf) not in found:
                found[id(leaf)] = leaf
                waiting.append(vars(leaf))
    return list(found.values())


def _state(held: Any) -> dict[str, Any]:
    """An object's values, in lists of their own."""
    copied: dict[str, Any] = tree_map(lambda leaf: leaf, vars(held))
    return copied


def _set_states(objects: Sequence[Any], states: Sequence[dict[str, Any]]) -> None:
    for each, state in zip(objects, states, strict=True):
        vars(each).clear()
        vars(each).update(state)


class _BlockCall:
    """One call of a block, as a function of its trained weights and input arrays."""

    def __init__(self, call: _Call, layer: Any, tree: Any, objects: list[Any]) -> None:
        self._call, self._layer, self._tree, self._objects = call, layer, tree, objects
        self._trained = named_arrays(layer.trainable_parameters())
        self._frozen = {
            name: array
            for name, array in named_arrays(layer.parameters()).items()
            if name not in self._trained
        }
        self._results: Any = None

    def __call__(self, inputs: list[mx.array]) -> Any:
        function: Any = mx.custom_function(self._forward)
        function.vjp(self._backward)
        outputs = function(*self._trained.values(), *inputs)
        results, states = _joined(outputs, self._results)
        _set_states(self._objects, states)
        return results

    def _forward(self, *inputs: mx.array) -> list[mx.array]:
        return self._computed(inputs, {})

    def _backward(self, inputs: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        # MLX passes the only input of a frozen block as it is, not as a tuple.
        inputs = [inputs] if isinstance(inputs, mx.array) else inputs
        read = mx.depends([*inputs, *self._frozen.values()], list(cotangents))
        reals = [at for at, each in enumerate(inputs) if mx.issubdtype(each.dtype, mx.floating)]

        def again(*arrays: mx.array) -> list[mx.array]:
            frozen = dict(zip(self._frozen, arrays[len(inputs) :], strict=True))
            return self._computed(arrays[: len(inputs)], frozen)

        gradients = gradients_by(again, read, reals, cotangents)
        of_weights, passed_on = gradients[: len(self._trained)], gradients[len(self._trained) :]
        if of_weights and passed_on:
            # MLX would recompute the block before this one first, and hold what these need.
            passed_on = mx.depends(passed_on, of_weights)
        found = dict(zip(reals, [*of_weights, *passed_on], strict=True))
        return tuple(found.get(at, mx.zeros_like(each)) for at, each in enumerate(inputs))

    def _computed(self, inputs: Sequence[mx.array], frozen: dict[str, mx.array]) -> list[mx.array]:
        """The block's outputs from these inputs, with these frozen weights if given."""
        trained = dict(zip(self._trained, inputs, strict=False))
        arguments, options, states = _joined(inputs[len(trained) :], self._tree)
        before, held = self._layer.parameters(), [_state(each) for each in self._objects]
        self._layer.update(tree_unflatten([*trained.items(), *frozen.items()]))
        _set_states(self._objects, states)
        try:
            results = self._call(self._layer, *arguments, **options)
            left = [_state(each) for each in self._objects]
            outputs, self._results = _split((results, left))
        finally:
            self._layer.update(before)
            _set_states(self._objects, held)
        return outputs

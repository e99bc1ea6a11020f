"""Activation functions that keep little on a GPU, which computes the rest again backwards.

By automatic differentiation a gated MLP keeps five arrays of its inner width: both inputs, the
sigmoid, the SiLU and their product. Here a GPU keeps three. A CPU, whose sigmoids take longer than
the memory is worth, keeps five; its sigmoid is a faster one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import e, log2, pi, sqrt
from types import FunctionType
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn
from mlx.nn.layers.base import Module
from mlx_lm.models import activations

from mlxft.compute.training.attention import Backend

_LOG2_E: Final = log2(e)

_SLOPE: Final = sqrt(8 / pi)
"""Of the sigmoid that half of one plus GELU's hyperbolic tangent is, at 0."""

_CUBE: Final = 0.044715

Activation = Callable[..., mx.array]


def replacements(backend: Backend) -> list[tuple[Any, str, Activation]]:
    """Module, name and replacement of each activation function in MLX and loaded models.

    Models import `swiglu` by name, so it is replaced in every model's module, and so are functions
    that a model has compiled around another of them: these have a gradient of their own now, which
    MLX can't compile for all shapes at once.
    """
    if backend == "cpu":
        return [(nn, name, own) for name, own in _OF_CPU.items()]
    return [*((nn, name, own) for name, own in _OF_GPU.items()), *_of_models(_layers())]


class _Names:
    """A module as its names: that of a model's own file is in no list of Python's."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.__dict__ = names


def _layers() -> tuple[type[Module], ...]:
    """All classes of layers, whose functions know the names of their modules."""
    found: dict[type[Module], None] = {}
    waiting: list[type[Module]] = [Module]
    while waiting:
        new = [each for each in waiting.pop().__subclasses__() if each not in found]
        found.update(dict.fromkeys(new))
        waiting += new
    return tuple(found)


@lru_cache(maxsize=1)
def _of_models(layers: tuple[type[Module], ...]) -> list[tuple[Any, str, Activation]]:
    functions = (value for layer in layers for value in vars(layer).values())
    modules = {
        id(each.__globals__): each.__globals__
        for each in functions
        if isinstance(each, FunctionType)
    }
    compiled = [
        (_Names(names), name, value)
        for names in modules.values()
        for name, value in names.items()
        if isinstance(value, type(activations.swiglu)) and _has_activation(value)
    ]
    return [
        (module, name, _swiglu if value is activations.swiglu else _as_written(value))
        for module, name, value in compiled
    ]


def _has_activation(compiled: Any) -> bool:
    code = getattr(compiled, "__code__", None)
    return code is not None and not _OF_GPU.keys().isdisjoint(code.co_names)


def _as_written(compiled: Any) -> Activation:
    """The function that was compiled; in a compiled step it is a part of that anyway."""
    written = FunctionType(
        compiled.__code__,
        compiled.__globals__,
        compiled.__name__,
        compiled.__defaults__,
        compiled.__closure__,
    )
    written.__kwdefaults__ = compiled.__kwdefaults__
    return written


def _from_inputs(forward: Activation, slopes: Callable[..., tuple[mx.array, ...]]) -> Activation:
    """A function whose gradients are its cotangent times slopes that are computed from its inputs,
    once the cotangent is there: compiled steps would keep the forward pass's values otherwise."""

    def backward(primals: Any, cotangent: mx.array, _: mx.array) -> Any:
        inputs = primals if isinstance(primals, list | tuple) else [primals]
        found = [cotangent * slope for slope in slopes(*mx.depends(list(inputs), [cotangent]))]
        return found if len(found) > 1 else found[0]

    function: Any = mx.custom_function(forward)
    function.vjp(backward)
    activation: Activation = function
    return activation


def _silu_slope(x: mx.array, sigmoid: mx.array) -> mx.array:
    return sigmoid * (1.0 + x * (1.0 - sigmoid))


def _gelu_sigmoid(x: mx.array) -> mx.array:
    return mx.sigmoid(_SLOPE * (x + _CUBE * x**3))


def _gelu_slopes(x: mx.array) -> tuple[mx.array]:
    sigmoid = _gelu_sigmoid(x)
    inner = _SLOPE * (1.0 + 3 * _CUBE * x * x)
    return (sigmoid * (1.0 + x * (1.0 - sigmoid) * inner),)


def _swiglu_slopes(gate: mx.array, up: mx.array) -> tuple[mx.array, mx.array]:
    sigmoid = mx.sigmoid(gate)
    return up * _silu_slope(gate, sigmoid), gate * sigmoid


_OF_GPU: Final[dict[str, Activation]] = {
    "silu": _from_inputs(lambda x: x * mx.sigmoid(x), lambda x: (_silu_slope(x, mx.sigmoid(x)),)),
    "gelu_approx": _from_inputs(lambda x: x * _gelu_sigmoid(x), _gelu_slopes),
}

_swiglu_of_alike: Final = _from_inputs(
    lambda gate, up: gate * mx.sigmoid(gate) * up, _swiglu_slopes
)


def _swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """Inputs that MLX casts or broadcasts have gradients of other types or shapes than it."""
    if (gate.shape, gate.dtype) == (up.shape, up.dtype):
        return _swiglu_of_alike(gate, up)
    return _OF_GPU["silu"](gate) * up


def _sigmoid(x: mx.array) -> mx.array:
    """A CPU's exp takes three times as long as its power, and a quarter of a step's time."""
    return mx.reciprocal(1.0 + mx.power(2.0, x * -_LOG2_E))


_differentiable_sigmoid: Any = mx.custom_function(_sigmoid)
_differentiable_sigmoid.vjp(lambda _, cotangent, output: cotangent * output * (1.0 - output))


def _silu(x: mx.array) -> mx.array:
    activated: mx.array = x * _differentiable_sigmoid(x)
    return activated


def _gelu_approx(x: mx.array) -> mx.array:
    activated: mx.array = x * _differentiable_sigmoid(_SLOPE * (x + _CUBE * x**3))
    return activated


_OF_CPU: Final[dict[str, Activation]] = {"silu": _silu, "gelu_approx": _gelu_approx}

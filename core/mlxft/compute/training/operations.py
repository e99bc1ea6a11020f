"""The operations that models compute with during a step, chosen by backend.

mlx_lm's models look them up in MLX's modules at each call, so they are replaced there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import e, log2, pi, sqrt
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn

from mlxft.compute import backend
from mlxft.compute.training import packing, recurrent_layers
from mlxft.compute.training.attention import Backend, training_attention
from mlxft.compute.training.choices import Choices, known
from mlxft.compute.training.convolutions import training_convolution
from mlxft.compute.training.quantized_products import expert_product_by, product_by

_LOG2_E: Final = log2(e)

_Replacement = tuple[Any, str, Callable[..., Any]]


@contextmanager
def replaced(on: Backend | None = None, choices: Choices | None = None) -> Iterator[None]:
    """Let models compute by what suits training on a backend, by default on this process's own.

    `choices` are a run's; by default they are what is known of the backend.
    """
    own = on or backend.kind()
    choices = choices or known(own)
    replacements = _replacements(own, choices)
    before = [getattr(module, name) for module, name, _ in replacements]
    for module, name, function in replacements:
        setattr(module, name, function)
    try:
        with nullcontext() if choices.compiled else backend.not_compiled():
            yield
    finally:
        packing.forget_records()
        for (module, name, _), function in zip(replacements, before, strict=True):
            setattr(module, name, function)


def _replacements(on: Backend, choices: Choices) -> tuple[_Replacement, ...]:
    attention = training_attention(choices.attention, mx.fast.scaled_dot_product_attention)
    found: tuple[_Replacement, ...] = (
        (mx.fast, "scaled_dot_product_attention", attention),
        (mx, "conv1d", training_convolution(mx.conv1d)),
        *recurrent_layers.replacements(on),
    )
    if on == "cpu":
        return (*found, (nn, "silu", _silu), (nn, "gelu_approx", _gelu_approx))
    products = choices.products
    return (
        *found,
        (mx, "quantized_matmul", product_by(products, mx.quantized_matmul)),
        (mx, "gather_qmm", expert_product_by(products, mx.gather_qmm)),
    )


def _sigmoid(x: mx.array) -> mx.array:
    return mx.reciprocal(1.0 + mx.power(2.0, x * -_LOG2_E))


def _sigmoid_vjp(_: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output * (1.0 - output)


_differentiable_sigmoid: Any = mx.custom_function(_sigmoid)
_differentiable_sigmoid.vjp(_sigmoid_vjp)
# A CPU's exp takes three times as long as its power, and a quarter of a step's time.


def _silu(x: mx.array) -> mx.array:
    """`nn.silu`."""
    activated: mx.array = x * _differentiable_sigmoid(x)
    return activated


def _gelu_approx(x: mx.array) -> mx.array:
    """`nn.gelu_approx`: half of one plus a hyperbolic tangent is a sigmoid of twice as much."""
    activated: mx.array = x * _differentiable_sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x**3))
    return activated

"""The operations that models compute with during a step, chosen by backend.

mlx_lm's models look them up in MLX's modules at each call, so they are replaced there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import mlx.core as mx

from mlxft.compute import backend
from mlxft.compute.training import activations, packing, recurrent_layers
from mlxft.compute.training.attention import Backend, training_attention
from mlxft.compute.training.choices import Choices, known
from mlxft.compute.training.convolutions import training_convolution
from mlxft.compute.training.quantized_products import expert_product_by, product_by

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
        *activations.replacements(on),
    )
    if on == "cpu":
        return found
    products = choices.products
    return (
        *found,
        (mx, "quantized_matmul", product_by(products, mx.quantized_matmul)),
        (mx, "gather_qmm", expert_product_by(products, mx.gather_qmm)),
    )

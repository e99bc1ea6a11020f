"""Short causal convolutions in training, against MLX's own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxft.compute import backend as process
from mlxft.compute.training import operations, packing
from mlxft.compute.training.attention import Backend
from support.evaluation import one_by_one

CHANNELS, KERNEL, TOKENS = 6, 4, 20
RECORDS = mx.array([[1] * 9 + [2] + [3] * 10, [1] * 2 + [2] * 15 + [0] * 3])

mlx_conv1d = mx.conv1d


class _NoLayers:
    layers = ()


def causal(x: mx.array, weight: mx.array) -> mx.array:
    """As a model calls it, through MLX's module."""
    return mx.conv1d(mx.pad(x, [(0, 0), (KERNEL - 1, 0), (0, 0)]), weight, groups=CHANNELS)


def mlxs(x: mx.array, weight: mx.array) -> mx.array:
    return mlx_conv1d(mx.pad(x, [(0, 0), (KERNEL - 1, 0), (0, 0)]), weight, groups=CHANNELS)


def record_by_record(x: mx.array, weight: mx.array) -> mx.array:
    rows = []
    for row, records in enumerate(np.array(RECORDS)):
        ends = [0, *(np.flatnonzero(np.diff(records)) + 1).tolist(), TOKENS]
        parts = [mlxs(x[row : row + 1, start:stop], weight) for start, stop in pairwise(ends)]
        rows.append(mx.concatenate(parts, axis=1))
    return mx.concatenate(rows)


def found(function: Callable[[mx.array, mx.array], mx.array]) -> list[Any]:
    """The result and its gradients by rows and weights."""
    mx.random.seed(0)
    arrays = mx.random.normal((2, TOKENS, CHANNELS)), mx.random.normal((CHANNELS, KERNEL, 1))
    gradients = mx.grad(lambda x, weight: function(x, weight).sin().sum(), argnums=(0, 1))(*arrays)
    return [np.array(each) for each in (function(*arrays), *gradients)]


def test_it_and_its_gradients_equal_mlxs() -> None:
    with operations.replaced():
        ours = found(causal)
    for a, b in zip(ours, found(mlxs), strict=True):
        assert np.allclose(a, b, 1e-5, 1e-5)


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_in_packed_rows_it_never_reaches_into_another_record(backend: Backend) -> None:
    with operations.replaced(backend):
        packing.caches(_NoLayers(), RECORDS)
        ours = found(causal)
    assert packing.records() is None
    for a, b in zip(ours, found(record_by_record), strict=True):
        assert np.allclose(a, b, 1e-5, 1e-5)


def test_other_convolutions_are_left_to_mlx() -> None:
    x, weight = mx.ones((2, TOKENS, CHANNELS)), mx.ones((3, KERNEL, CHANNELS))
    with operations.replaced():
        assert mx.array_equal(mx.conv1d(x, weight), mlx_conv1d(x, weight))


def test_a_compiled_step_keeps_only_what_a_packed_convolution_is_given() -> None:
    tokens, channels = 4096, 16
    records = (mx.arange(tokens) // 100)[None]
    x, weight = mx.zeros((1, tokens, channels)), mx.ones((channels, KERNEL, 1))

    def loss(x: mx.array, weights: list[mx.array]) -> mx.array:
        for each in weights:
            padded = mx.pad(x, [(0, 0), (KERNEL - 1, 0), (0, 0)])
            x = mx.sin(mx.conv1d(padded, each, groups=channels))
        return x.sum()

    def peak(layers: int) -> int:
        step = mx.compile(mx.grad(loss, 1))
        compute = one_by_one(lambda: mx.eval(step(x, [weight] * layers)))
        compute()
        return process.peak_of(compute)

    with operations.replaced("cuda"):
        packing.caches(_NoLayers(), records)
        mx.enable_compile()
        try:
            assert peak(6) - peak(3) < 3 * 4 * x.nbytes
        finally:
            mx.disable_compile()

"""The CPU's own attention and activations against MLX's."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.base import create_causal_mask, scaled_dot_product_attention
from numpy.typing import NDArray

from mlxft.compute.arrays import number
from mlxft.compute.training import cpu_operations, packing
from mlxft.memory.estimator import ATTENTION_BLOCK

_SCALE = 0.3


class _ModelOfOneLayer:
    """The part of a model that decides its number of caches."""

    layers = (None,)


def _arrays(rows: int, heads: int, groups: int, tokens: int) -> list[mx.array]:
    mx.random.seed(tokens)
    shapes = [(rows, heads, tokens, 8), (rows, groups, tokens, 8), (rows, groups, tokens, 6)]
    return [mx.random.normal(shape) * 3 for shape in shapes]


def _attended(arrays: list[mx.array], mask: mx.array | str | None) -> list[NDArray[np.float32]]:
    """Attention and its gradient by queries, keys and values, as a model computes them."""
    weights = mx.random.normal((*arrays[0].shape[:-1], 6), key=mx.random.key(1))

    def weighted(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (scaled_dot_product_attention(q, k, v, None, _SCALE, mask) * weights).sum()

    value, gradients = mx.value_and_grad(weighted, (0, 1, 2))(*arrays)
    whole = scaled_dot_product_attention(*arrays, None, _SCALE, mask)
    return [np.array(each) for each in (value, whole, *gradients)]


def _is_near(ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]]) -> bool:
    return all(np.allclose(a, b, 2e-4, 2e-4) for a, b in zip(ours, theirs, strict=True))


class TestCausalAttention:
    @pytest.mark.parametrize("tokens", [1, 7, 128, 129, 300])
    @pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (3, 1)])
    def test_it_and_its_gradients_equal_mlxs(self, tokens: int, heads: int, groups: int) -> None:
        arrays = _arrays(2, heads, groups, tokens)
        theirs = _attended(arrays, "causal")
        with cpu_operations.replaced():
            ours = _attended(arrays, "causal")
        assert _is_near(ours, theirs)

    def test_the_block_size_is_the_estimators(self) -> None:
        assert cpu_operations.BLOCK == ATTENTION_BLOCK

    def test_an_unknown_mask_is_left_to_mlx(self) -> None:
        arrays = _arrays(1, 2, 2, 9)
        mask = create_causal_mask(9, window_size=3)
        theirs = _attended(arrays, mask)
        with cpu_operations.replaced():
            ours = _attended(arrays, mask)
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))

    def test_scores_that_overflow_exp_are_handled(self) -> None:
        q, k, v = _arrays(1, 2, 2, 9)
        with cpu_operations.replaced():
            result = scaled_dot_product_attention(q * 1e4, k, v, None, _SCALE, "causal")
        assert np.isfinite(np.array(result)).all()


class TestRecordByRecord:
    _SEGMENTS = mx.array([[1, 1, 1, 2, 2, 2, 2, 3, 0, 0], [1] * 10, [1, 1] + [2] * 8])

    @pytest.mark.parametrize("window", [None, 10])
    def test_it_and_its_gradients_equal_masked_attention(self, window: int | None) -> None:
        arrays = _arrays(3, 4, 2, 10)
        mask = packing.PackedCache(self._SEGMENTS).make_mask(10, window_size=window)
        theirs = _attended(arrays, mask)
        with cpu_operations.replaced():
            ours = _attended(arrays, mask)
        assert packing.ends_of(mask) == [[3, 7, 8], [], [2]]
        assert _is_near(ours, theirs)

    def test_a_window_that_cuts_a_record_keeps_its_mask(self) -> None:
        mask = packing.PackedCache(self._SEGMENTS).make_mask(10, window_size=9)
        assert packing.ends_of(mask) is None

    def test_masks_of_an_earlier_pass_are_forgotten(self) -> None:
        mask = packing.PackedCache(self._SEGMENTS).make_mask(10)
        packing.caches(_ModelOfOneLayer(), self._SEGMENTS)
        assert packing.ends_of(mask) is None


class TestActivations:
    @pytest.mark.parametrize("name", ["silu", "gelu_approx"])
    def test_they_and_their_gradients_equal_mlxs(self, name: str) -> None:
        x = mx.linspace(-90, 90, 4001)

        def both() -> list[NDArray[np.float32]]:
            function = getattr(nn, name)
            value, gradient = mx.value_and_grad(lambda x: function(x).sum())(x)
            return [np.array(each) for each in (value, function(x), gradient)]

        theirs = both()
        with cpu_operations.replaced():
            ours = both()
        assert all(np.allclose(a, b, 1e-5, 2e-6) for a, b in zip(ours, theirs, strict=True))

    def test_mlxs_own_are_restored_afterwards(self) -> None:
        before = nn.silu, mx.fast.scaled_dot_product_attention
        with pytest.raises(ZeroDivisionError), cpu_operations.replaced():
            number(mx.array(1 / 0))
        assert before == (nn.silu, mx.fast.scaled_dot_product_attention)

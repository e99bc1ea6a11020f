"""The operations that training replaces, against MLX's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.base import create_causal_mask, scaled_dot_product_attention
from numpy.typing import NDArray

from mlxft.compute import backend as process
from mlxft.compute.arrays import number
from mlxft.compute.training import attention, operations, packing, quantized_products
from mlxft.compute.training.quantized_products import (
    RULES,
    ProductRules,
    UnpackingRule,
    expert_product_by,
    product_by,
)
from mlxft.memory.estimator import ATTENTION_BLOCK, FEWEST_QUERIES, MOST_SCORES
from support.evaluation import one_by_one

_SCALE = 0.3


class _ModelOfOneLayer:
    """The part of a model that decides its number of caches."""

    layers = (None,)


def _arrays(
    rows: int, heads: int, groups: int, tokens: int, size: int = 8, value_size: int = 6
) -> list[mx.array]:
    mx.random.seed(tokens)
    sizes = ((heads, size), (groups, size), (groups, value_size))
    shapes = [(rows, many, tokens, each) for many, each in sizes]
    return [mx.random.normal(shape) * 3 for shape in shapes]


def _attended(arrays: list[mx.array], mask: mx.array | str | None) -> list[NDArray[np.float32]]:
    """Attention and its gradient by queries, keys and values, as a model computes them."""
    weights = mx.random.normal((*arrays[0].shape[:-1], arrays[2].shape[-1]), key=mx.random.key(1))

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
        with operations.replaced():
            ours = _attended(arrays, "causal")
        assert _is_near(ours, theirs)

    def test_the_block_sizes_are_the_estimators(self) -> None:
        ours = attention.BLOCK, attention.MOST_SCORES, attention.FEWEST_QUERIES
        assert ours == (ATTENTION_BLOCK, MOST_SCORES, FEWEST_QUERIES)

    def test_an_unknown_mask_is_left_to_mlx(self) -> None:
        arrays = _arrays(1, 2, 2, 9)
        mask = create_causal_mask(9, window_size=3)
        theirs = _attended(arrays, mask)
        with operations.replaced():
            ours = _attended(arrays, mask)
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))

    def test_scores_that_overflow_exp_are_handled(self) -> None:
        q, k, v = _arrays(1, 2, 2, 9)
        with operations.replaced():
            result = scaled_dot_product_attention(q * 1e4, k, v, None, _SCALE, "causal")
        assert np.isfinite(np.array(result)).all()


class TestRecordByRecord:
    _SEGMENTS = mx.array([[1, 1, 1, 2, 2, 2, 2, 3, 0, 0], [1] * 10, [1, 1] + [2] * 8])

    @pytest.mark.parametrize("window", [None, 10])
    def test_it_and_its_gradients_equal_masked_attention(self, window: int | None) -> None:
        arrays = _arrays(3, 4, 2, 10)
        mask = packing.PackedCache(self._SEGMENTS).make_mask(10, window_size=window)
        assert packing.ends_of(mask) == [[3, 7, 8], [], [2]]
        theirs = _attended(arrays, mask)
        with operations.replaced():
            ours = _attended(arrays, mask)
        assert _is_near(ours, theirs)

    def test_a_window_that_cuts_a_record_keeps_its_mask(self) -> None:
        mask = packing.PackedCache(self._SEGMENTS).make_mask(10, window_size=9)
        assert packing.ends_of(mask) is None

    def test_masks_of_an_earlier_pass_are_forgotten(self) -> None:
        mask = packing.PackedCache(self._SEGMENTS).make_mask(10)
        packing.caches(_ModelOfOneLayer(), self._SEGMENTS)
        assert packing.ends_of(mask) is None


class TestReplacement:
    def test_mlxs_own_are_restored_afterwards(self) -> None:
        before = nn.silu, mx.fast.scaled_dot_product_attention
        with pytest.raises(ZeroDivisionError), operations.replaced():
            number(mx.array(1 / 0))
        assert before == (nn.silu, mx.fast.scaled_dot_product_attention)


class TestAttentionOfAGpu:
    """Its ways are forced on this machine's CPU, whose own attention stands for the fused one."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blocks so small that short rows have several."""
        monkeypatch.setattr(attention, "SHORT", 32)
        monkeypatch.setitem(attention.BLOCK, "cuda", 64)

    @pytest.mark.parametrize("size", [64, 192])
    @pytest.mark.parametrize("tokens", [40, 64, 150])
    def test_causal_lengths_and_sizes_that_are_not_fused(self, size: int, tokens: int) -> None:
        arrays = _arrays(2, 4, 2, tokens, size, size)
        theirs = _attended(arrays, "causal")
        with operations.replaced("cuda"):
            ours = _attended(arrays, "causal")
        assert _is_near(ours, theirs)

    def test_longer_rows_have_smaller_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        held: list[int] = []
        softmax = mx.softmax

        def counted(scores: mx.array, axis: int) -> mx.array:
            held.append(scores.size)
            return softmax(scores, axis=axis)

        arrays = _arrays(2, 4, 2, 600)
        theirs = _attended(arrays, "causal")
        monkeypatch.setitem(attention.MOST_SCORES, "cuda", 2 * 4 * 600 * 40)
        monkeypatch.setattr(mx, "softmax", counted)
        with operations.replaced("cuda"):
            ours = _attended(arrays, "causal")
        assert _is_near(ours, theirs)
        assert len(held) == 3 * 15
        assert max(held) <= attention.MOST_SCORES["cuda"]

    @pytest.mark.parametrize("rows", [1, 2])
    def test_a_window(self, rows: int) -> None:
        arrays, mask = _arrays(rows, 4, 2, 150), create_causal_mask(150, window_size=40)
        theirs = _attended(arrays, mask)
        with operations.replaced("cuda"):
            ours = _attended(arrays, mask)
        assert _is_near(ours, theirs)

    def test_a_mask_for_each_head(self) -> None:
        """As MiniMax M3's, whose heads see blocks of keys of their own."""
        seen = mx.random.uniform(shape=(2, 4, 150, 150), key=mx.random.key(0)) < 0.5
        mask = create_causal_mask(150) & (seen | mx.eye(150, dtype=mx.bool_))
        arrays = _arrays(2, 4, 2, 150)
        theirs = _attended(arrays, mask)
        with operations.replaced("cuda"):
            ours = _attended(arrays, mask)
        assert _is_near(ours, theirs)

    @pytest.mark.parametrize("window", [None, 60])
    def test_packed_records(self, window: int | None) -> None:
        segments = mx.array([[1] * 50 + [2] * 100, [1] * 140 + [0] * 10])
        mask = packing.PackedCache(segments).make_mask(150, window_size=window)
        arrays = _arrays(2, 4, 2, 150)
        theirs = _attended(arrays, mask)
        with operations.replaced("cuda"):
            ours = _attended(arrays, mask)
        assert _is_near(ours, theirs)

    @pytest.mark.parametrize(
        ("backend", "head", "tokens", "expected"),
        [
            ("cuda", (128, 128), 2048, "backend"),
            ("cuda", (128, 128), 2047, "padded"),
            ("cuda", (256, 256), 2048, "blocks"),
            ("cuda", (128, 128), 20, "backend"),
            ("metal", (128, 128), 2047, "fused"),
            ("metal", (256, 256), 2047, "fused"),
            ("metal", (96, 64), 2047, "fused"),
            ("metal", (112, 112), 2047, "blocks"),
            ("metal", (192, 128), 2047, "blocks"),
            ("metal", (512, 512), 2047, "blocks"),
            ("cpu", (128, 128), 2047, "blocks"),
        ],
    )
    def test_causal_ways(
        self,
        backend: attention.Backend,
        head: tuple[int, int],
        tokens: int,
        expected: attention.Way,
    ) -> None:
        assert attention.known_choice(backend).way(head, tokens, "causal") == expected

    @pytest.mark.parametrize("backend", ["cuda", "metal"])
    def test_a_mask_is_attended_in_blocks(self, backend: attention.Backend) -> None:
        mask = packing.PackedCache(mx.ones((1, 150), mx.int32)).make_mask(150)
        assert attention.known_choice(backend).way((64, 64), 150, mask) == "blocks"

    def test_metal_must_use_its_fused_kernels(self) -> None:
        def fused(
            *arrays: mx.array, mask: str, force_fused: bool = False, scale: float
        ) -> mx.array:
            assert (mask, force_fused) == ("causal", True)
            return mx.zeros(1)

        arrays = _arrays(1, 4, 2, 150, 64, 64)
        attended = attention.training_attention(attention.known_choice("metal"), fused)
        assert attended(*arrays, scale=1.0, mask="causal").shape == (1,)

    def test_where_metal_has_none_it_attends_in_blocks(self) -> None:
        """A CPU refuses, as a Metal without such kernels does."""
        arrays = _arrays(2, 4, 2, 150, 64, 64)
        theirs = _attended(arrays, "causal")
        with operations.replaced("metal"):
            ours = _attended(arrays, "causal")
        assert _is_near(ours, theirs)

    @pytest.mark.parametrize("packed", [False, True])
    def test_memory_grows_with_the_length(self, packed: bool) -> None:
        peaks = []
        for tokens in (1025, 2050):
            arrays, segments = _arrays(1, 1, 1, tokens, 136), mx.arange(tokens)[None] // 300
            mx.eval(arrays, segments)
            mx.reset_peak_memory()
            with operations.replaced("cuda"):
                mask = packing.PackedCache(segments).make_mask(tokens) if packed else "causal"
                _attended(arrays, mask)
            peaks.append(mx.get_peak_memory())
        assert peaks[1] < 2.6 * peaks[0]

    def test_a_compiled_step_keeps_no_scores_of_rows_in_one_block(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tokens = 256
        monkeypatch.setitem(attention.BLOCK, "cuda", tokens)
        x, mask = mx.zeros((2, 4, tokens, 8)), mx.tril(mx.ones((2, 1, tokens, tokens), mx.bool_))

        def loss(x: mx.array, layers: int) -> mx.array:
            for _ in range(layers):
                x = x + scaled_dot_product_attention(x, x, x, None, _SCALE, mask)
            return x.sum()

        def peak(layers: int) -> int:
            step = mx.compile(mx.grad(lambda x: loss(x, layers)))
            compute = one_by_one(lambda: mx.eval(step(x)))
            compute()
            return process.peak_of(compute)

        with operations.replaced("cuda"):
            mx.enable_compile()
            try:
                assert peak(6) - peak(3) < 2 * 4 * tokens * tokens * 4
            finally:
                mx.disable_compile()


class TestQuantizedProducts:
    @pytest.mark.parametrize(
        ("mode", "bits", "group"),
        [("affine", 4, 64), ("affine", 8, 32), ("affine", 3, 64), ("mxfp4", 4, 32)],
    )
    @pytest.mark.parametrize("largest", [2**26, 5_000])
    @pytest.mark.parametrize(("forward", "backward"), [(1, 1), (None, 1), (1, None)])
    def test_unpacked_first_they_and_their_gradients_are_the_same(
        self,
        monkeypatch: pytest.MonkeyPatch,
        mode: str,
        bits: int,
        group: int,
        largest: int,
        forward: int | None,
        backward: int | None,
    ) -> None:
        monkeypatch.setattr(quantized_products, "LARGEST_UNPACKED", largest)
        monkeypatch.setattr(quantized_products, "PART_ROWS", 8)
        mx.random.seed(3)
        packed = mx.quantize(mx.random.normal((67, 128)), group, bits, mode=mode)
        options: dict[str, Any] = {"group_size": group, "bits": bits, "mode": mode}
        x = mx.random.normal((2, 5, 128))
        rule = UnpackingRule(forward=forward, backward=backward, source="forced")
        product = product_by(ProductRules(otherwise=rule), mx.quantized_matmul)

        def found(function: Callable[..., mx.array]) -> list[NDArray[np.float32]]:
            value, gradient = mx.value_and_grad(
                lambda x: function(x, *packed, **options).sin().sum()
            )(x)
            return [np.array(value), np.array(gradient)]

        assert _is_near(found(product), found(mx.quantized_matmul))

    def test_gradients_by_one_input_unpack_one_matrix_at_a_time(self) -> None:
        rule = UnpackingRule(forward=None, backward=1, source="forced")
        x, packed = mx.ones((1, 512)), mx.quantize(mx.random.normal((512, 512)))
        mx.eval(x, packed)

        def peak(products: int) -> int:
            product = product_by(ProductRules(otherwise=rule), mx.quantized_matmul)

            def loss(x: mx.array) -> mx.array:
                return mx.stack([product(x, *packed).sin() for _ in range(products)]).sum()

            return process.peak_of(one_by_one(lambda: mx.eval(mx.grad(loss)(x))))

        assert peak(8) - peak(2) < 3 * 512 * 512 * 4

    def test_parts_of_a_large_matrix_begin_at_round_rows(self) -> None:
        """Else CUDA multiplies at half the speed."""
        weights = mx.quantize(mx.zeros((128_256, 64)))
        matrix = quantized_products._Matrix(weights, {})
        parts = matrix.parts(weights, 3072, mx.bfloat16)
        assert len(parts) == 12
        assert {part.start % quantized_products.PART_ROWS for part in parts} == {0}

    def test_few_tokens_are_left_to_mlx(self) -> None:
        calls: list[mx.array] = []

        def packed_product(x: mx.array, *_: Any, **__: Any) -> mx.array:
            calls.append(x)
            return x

        product = product_by(ProductRules(otherwise=RULES["cuda"]), packed_product)
        weights = mx.quantize(mx.random.normal((64, 64)))
        product(mx.zeros((1, 63, 64)), *weights)
        product(mx.zeros((1, 256, 64)), *weights)
        assert len(calls) == 1

    @pytest.mark.parametrize("sort", [False, True])
    def test_experts_unpacked_first_are_the_same(self, sort: bool) -> None:
        mx.random.seed(3)
        packed = mx.quantize(mx.random.normal((5, 48, 64)))
        x = mx.random.normal((12, 1, 64))
        indices = mx.array([3, 0, 4, 4, 1, 0, 2, 3, 3, 1, 0, 4], mx.uint32)
        indices = mx.sort(indices) if sort else indices
        rule = UnpackingRule(forward=None, backward=None, experts=12, source="forced")
        product = expert_product_by(ProductRules(otherwise=rule), mx.gather_qmm)

        def found(function: Callable[..., mx.array]) -> list[NDArray[np.float32]]:
            def total(x: mx.array) -> mx.array:
                result = function(x, *packed, rhs_indices=indices, sorted_indices=sort)
                return result.sin().sum()

            value, gradient = mx.value_and_grad(total)(x)
            return [np.array(value), np.array(gradient)]

        assert _is_near(found(product), found(mx.gather_qmm))

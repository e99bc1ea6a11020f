"""Products with frozen quantized weights, packed or unpacked first, whichever is faster.

Which is faster depends on the device, the kind of weights and the number of tokens: `choices`
measures it once, and the rules here are for where it can't.

MLX's own products unpack the weights inside their kernels. On CUDA these kernels reach a fraction
of a dense product's speed: with more than a few tokens it is faster to unpack the weights into a
temporary matrix and multiply densely. The temporary never outlives its product, since the backward
pass unpacks again, and only once the gradient it multiplies is there. Products of one input, as of
a gate and its MLP's inner values, pass their gradients on one after another.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import mlx.core as mx

from mlxft.compute.training.partial_gradients import gradients_by

Backend = Literal["metal", "cuda", "cpu"]
Product = Callable[..., mx.array]


_Indices = tuple[mx.array | None, ...]

Kind = tuple[str, int, int]
"""A kind of quantized weights: its mode, bits, and weights that share a scale."""


@dataclass(frozen=True, kw_only=True)
class UnpackingRule:
    """From how many tokens on weights are unpacked first, in each direction; None is never.

    Those of experts, in both directions, from `experts` tokens on that they are given together.
    """

    forward: int | None
    backward: int | None
    experts: int | None = None
    source: str


RULES: Final[dict[Backend, UnpackingRule]] = {
    "cuda": UnpackingRule(
        forward=256,
        backward=64,
        source="matrices of 3072 × 8192 in 2, 4 and 8 bits on an H200 with mlx 0.32.4",
    ),
    "metal": UnpackingRule(forward=None, backward=None, source="not measured"),
    "cpu": UnpackingRule(forward=None, backward=None, source="weights are unpacked when loaded"),
}


@dataclass(frozen=True, kw_only=True)
class ProductRules:
    """The rule of each kind of weights, and the one for others."""

    otherwise: UnpackingRule
    by_kind: Mapping[Kind, UnpackingRule] = field(default_factory=dict)

    def of(self, options: Mapping[str, Any]) -> UnpackingRule:
        """The rule for the weights of a product with these options."""
        return self.by_kind.get(kind_of(options), self.otherwise)


def kind_of(options: Mapping[str, Any]) -> Kind:
    """The kind of weights that a product's or a layer's options name."""
    mode = options.get("mode") or "affine"
    return mode, options.get("bits") or 4, options.get("group_size") or 64


LARGEST_UNPACKED: Final = 2**26
"""Bytes of a matrix that is unpacked at once; a larger one, as a head, is unpacked in parts."""

PART_ROWS: Final = 256
"""A part's rows are a multiple of this: CUDA multiplies at half the speed where they are odd."""

LARGEST_EXPERTS: Final = 2**29
"""Bytes of all experts' matrices together, which are unpacked at once or not at all."""


class _Matrix:
    """A quantized matrix of (outputs, inputs), unpacked part by part."""

    def __init__(self, arrays: tuple[mx.array, ...], options: dict[str, Any]) -> None:
        self.arrays = arrays
        self._options = options

    def parts(self, arrays: Sequence[mx.array], inputs: int, dtype: mx.Dtype) -> list[slice]:
        """The rows of each part: `inputs` values of a type each."""
        outputs = arrays[0].shape[0]
        rows = max(PART_ROWS, LARGEST_UNPACKED // (inputs * dtype.size) // PART_ROWS * PART_ROWS)
        return [slice(at, at + rows) for at in range(0, outputs, rows)]

    def unpacked(self, arrays: Sequence[mx.array], part: slice, dtype: mx.Dtype) -> mx.array:
        """Some rows of the matrix of these arrays."""
        weight, scales, *biases = (array[part] for array in arrays)
        matrix = mx.dequantize(weight, scales, biases[0] if biases else None, **self._options)
        return matrix.astype(dtype)

    def times_transposed(self, x: mx.array, arrays: Sequence[mx.array]) -> mx.array:
        """(…, inputs) → (…, outputs)."""
        done: list[mx.array] = []
        for part in self.parts(arrays, x.shape[-1], x.dtype):
            held = mx.depends(list(arrays), done[-1:]) if done else arrays
            done.append(x @ self.unpacked(held, part, x.dtype).T)
        return done[0] if len(done) == 1 else mx.concatenate(done, axis=-1)

    def times(self, x: mx.array, arrays: Sequence[mx.array], inputs: int) -> mx.array:
        """(…, outputs) → (…, inputs)."""
        total: mx.array | None = None
        for part in self.parts(arrays, inputs, x.dtype):
            held = mx.depends(list(arrays), [total]) if total is not None else arrays
            product = x[..., part] @ self.unpacked(held, part, x.dtype)
            total = product if total is None else total + product
        assert total is not None
        return total


class _SameInput:
    """Products of one input, whose matrices are unpacked one after another in the backward pass.

    MLX would unpack them all before it multiplies.
    """

    def __init__(self, x: mx.array) -> None:
        self._x = weakref.ref(x)
        self._left = 0
        self._latest: list[mx.array] = []

    def joined(self, x: mx.array) -> _SameInput:
        """These products with one more, or others if it has another input."""
        group = self if self._x() is x else _SameInput(x)
        group._left += 1
        return group

    def unpacked_before(self) -> list[mx.array]:
        """What the next product's matrix has to wait for."""
        return self._latest

    def passed_on(self, gradient: mx.array) -> None:
        """A product's gradient of the input."""
        self._left -= 1
        # Kept no longer than needed, since the products hold this object.
        self._latest = [gradient] if self._left else []


def product_by(rules: ProductRules, packed_product: Product) -> Product:
    """`mx.quantized_matmul` that unpacks first where the rules say so.

    `packed_product` is MLX's own. Only products with a transposed matrix, as of a linear layer,
    are unpacked.
    """
    group: _SameInput | None = None

    def product(
        x: mx.array,
        w: mx.array,
        /,
        scales: mx.array,
        biases: mx.array | None = None,
        transpose: bool = True,
        **options: Any,
    ) -> mx.array:
        nonlocal group
        tokens, rule = x.size // x.shape[-1], rules.of(options)
        unpacks_forward, unpacks_backward = (
            least is not None and tokens >= least for least in (rule.forward, rule.backward)
        )
        if w.ndim != 2 or not transpose or not (unpacks_forward or unpacks_backward):
            return packed_product(x, w, scales, biases, transpose, **options)
        arrays = (w, scales) if biases is None else (w, scales, biases)
        matrix = _Matrix(arrays, options)
        group = own_group = group.joined(x) if group else _SameInput(x).joined(x)

        def forward(x: mx.array) -> mx.array:
            if unpacks_forward:
                return matrix.times_transposed(x, arrays)
            return packed_product(x, w, scales, biases, True, **options)

        def backward(primal: mx.array, cotangent: mx.array, _: mx.array) -> mx.array:
            # Without an order a compiled step would keep the forward pass's matrix for this.
            waiting = mx.depends(list(arrays), [cotangent, *own_group.unpacked_before()])
            if unpacks_backward:
                gradient = matrix.times(cotangent, waiting, primal.shape[-1])
                own_group.passed_on(gradient)
                return gradient
            weight, scales, *biases = waiting
            given = biases[0] if biases else None
            return packed_product(cotangent, weight, scales, given, False, **options)

        function: Any = mx.custom_function(forward)
        function.vjp(backward)
        result: mx.array = function(x)
        return result

    return product


def expert_product_by(rules: ProductRules, packed_product: Product) -> Product:
    """`mx.gather_qmm` that unpacks all experts' matrices first where the rules say so.

    `packed_product` is MLX's own.
    """

    def product(
        x: mx.array,
        w: mx.array,
        /,
        scales: mx.array,
        biases: mx.array | None = None,
        lhs_indices: mx.array | None = None,
        rhs_indices: mx.array | None = None,
        transpose: bool = True,
        *,
        sorted_indices: bool = False,
        **options: Any,
    ) -> mx.array:
        rule, tokens = rules.of(options), rhs_indices.size if rhs_indices is not None else 0
        bytes_unpacked = w.shape[0] * w.shape[1] * x.shape[-1] * x.dtype.size
        plain = w.ndim == 3 and transpose and options.get("global_scale") is None
        fits = plain and bytes_unpacked <= LARGEST_EXPERTS
        if rule.experts is None or tokens < rule.experts or not fits:
            return packed_product(
                x,
                w,
                scales,
                biases,
                lhs_indices,
                rhs_indices,
                transpose,
                sorted_indices=sorted_indices,
                **options,
            )
        arrays = [w, scales] if biases is None else [w, scales, biases]
        indices = (lhs_indices, rhs_indices)

        def multiplied(x: mx.array, arrays: Sequence[mx.array], indices: _Indices) -> mx.array:
            weight, each_scale, *given = arrays
            matrices = mx.dequantize(weight, each_scale, given[0] if given else None, **options)
            return mx.gather_mm(
                x,
                matrices.astype(x.dtype).swapaxes(-1, -2),
                *indices,
                sorted_indices=sorted_indices,
            )

        def backward(primal: mx.array, cotangent: mx.array, _: mx.array) -> mx.array:
            waiting = mx.depends(arrays, [cotangent])
            known = [each for each in indices if each is not None]

            def again(x: mx.array, *read: mx.array) -> mx.array:
                left = iter(read[len(arrays) :])
                placed = tuple(each if each is None else next(left) for each in indices)
                return multiplied(x, read[: len(arrays)], placed)

            return gradients_by(again, [primal, *waiting, *known], [0], [cotangent])[0]

        function: Any = mx.custom_function(lambda x: multiplied(x, arrays, indices))
        function.vjp(backward)
        result: mx.array = function(x)
        return result

    return product

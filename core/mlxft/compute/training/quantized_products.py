"""Products with frozen quantized weights, packed or unpacked first, whichever is faster.

MLX's own products unpack the weights inside their kernels. On CUDA these kernels reach a fraction
of a dense product's speed: with more than a few tokens it is faster to unpack the weights into a
temporary matrix and multiply densely. The temporary never outlives its product, since the backward
pass unpacks again, and only once the gradient it multiplies is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import mlx.core as mx

Backend = Literal["metal", "cuda", "cpu"]
Product = Callable[..., mx.array]


@dataclass(frozen=True, kw_only=True)
class UnpackingRule:
    """From how many tokens on weights are unpacked first, in each direction; None is never."""

    forward: int | None
    backward: int | None
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


LARGEST_UNPACKED: Final = 2**26
"""Bytes of a matrix that is unpacked at once; a larger one, as a head, is unpacked in parts."""


class _Matrix:
    """A quantized matrix of (outputs, inputs), unpacked part by part."""

    def __init__(self, arrays: tuple[mx.array, ...], options: dict[str, Any]) -> None:
        self.arrays = arrays
        self._options = options

    def parts(self, arrays: Sequence[mx.array], inputs: int, dtype: mx.Dtype) -> list[slice]:
        """The rows of each part: `inputs` values of a type each."""
        outputs = arrays[0].shape[0]
        rows = max(1, LARGEST_UNPACKED // (inputs * dtype.size))
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


def product_by(rule: UnpackingRule, packed_product: Product) -> Product:
    """`mx.quantized_matmul` that unpacks first where the rule says so.

    `packed_product` is MLX's own. Only products with a transposed matrix, as of a linear layer,
    are unpacked.
    """

    def product(
        x: mx.array,
        w: mx.array,
        /,
        scales: mx.array,
        biases: mx.array | None = None,
        transpose: bool = True,
        **options: Any,
    ) -> mx.array:
        tokens = x.size // x.shape[-1]
        unpacks_forward, unpacks_backward = (
            least is not None and tokens >= least for least in (rule.forward, rule.backward)
        )
        if w.ndim != 2 or not transpose or not (unpacks_forward or unpacks_backward):
            return packed_product(x, w, scales, biases, transpose, **options)
        arrays = (w, scales) if biases is None else (w, scales, biases)
        matrix = _Matrix(arrays, options)

        def forward(x: mx.array) -> mx.array:
            if unpacks_forward:
                return matrix.times_transposed(x, arrays)
            return packed_product(x, w, scales, biases, True, **options)

        def backward(primal: mx.array, cotangent: mx.array, _: mx.array) -> mx.array:
            # Without an order a compiled step would keep the forward pass's matrix for this.
            waiting = mx.depends(list(arrays), [cotangent])
            if unpacks_backward:
                return matrix.times(cotangent, waiting, primal.shape[-1])
            weight, scales, *biases = waiting
            given = biases[0] if biases else None
            return packed_product(cotangent, weight, scales, given, False, **options)

        function: Any = mx.custom_function(forward)
        function.vjp(backward)
        result: mx.array = function(x)
        return result

    return product

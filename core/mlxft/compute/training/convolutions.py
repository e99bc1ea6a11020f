"""Short causal convolutions of packed rows, which never reach into the record before.

They are sums of products with the row, shifted token by token, within each record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import mlx.core as mx

from mlxft.compute.training import packing

Convolution = Callable[..., mx.array]

LONGEST: Final = 8
"""Tokens of the longest kernel; the products grow with its length."""


def training_convolution(otherwise: Convolution) -> Convolution:
    """`mx.conv1d` for training; `otherwise` is MLX's own.

    A convolution with one channel per group is taken for a causal one, over the row and as many
    tokens before it as the kernel reaches back.
    """

    def convolution(
        x: mx.array,
        weight: mx.array,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        **options: Any,
    ) -> mx.array:
        kernel, records = weight.shape[1], packing.records()
        each_channel = groups == weight.shape[0] == x.shape[-1]
        causal = (stride, padding, dilation) == (1, 0, 1) and each_channel and kernel <= LONGEST
        if records is None or not causal or x.shape[1] != records.shape[1] + kernel - 1:
            return otherwise(x, weight, stride, padding, dilation, groups, **options)
        result: mx.array = _Shifted(records).function(x, weight)
        return result

    return convolution


class _Shifted:
    """A causal convolution of each channel within the records of packed rows."""

    def __init__(self, records: mx.array) -> None:
        self._records = records

    @property
    def function(self) -> Any:
        """A function of (rows, reach + tokens, channels) and weights with its own gradient."""
        function: Any = mx.custom_function(self._forward)
        function.vjp(self._backward)
        return function

    def _forward(self, x: mx.array, weight: mx.array) -> mx.array:
        kernel = weight.shape[1]
        tokens = x.shape[1] - kernel + 1
        parts = [self._seen(x, at, kernel, tokens) for at in range(kernel)]
        return _weighted(parts, weight).astype(x.dtype)

    def _backward(self, primals: Any, change: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
        # A compiled step would keep what the forward pass saw otherwise.
        x, weight = mx.depends(list(primals), [change])
        kernel, tokens = weight.shape[1], change.shape[1]
        by_weight = [
            (self._seen(x, at, kernel, tokens) * change).astype(mx.float32).sum(axis=(0, 1))
            for at in range(kernel)
        ]
        reach = kernel - 1
        later = mx.pad(change, [(0, 0), (reach, reach), (0, 0)])
        parts = [self._reached(later, reach - at, x.shape[1], reach) for at in range(kernel)]
        of_weight = mx.stack(by_weight, axis=1)[..., None].astype(weight.dtype)
        return _weighted(parts, weight).astype(x.dtype), of_weight

    def _seen(self, x: mx.array, at: int, kernel: int, tokens: int) -> mx.array:
        """What each token sees at a place of the kernel; its own value is at the last."""
        part = x[:, at : at + tokens]
        if at == kernel - 1:
            return part
        before = _padded(self._records, kernel - 1, 0)[:, at : at + tokens]
        return mx.where((before == self._records)[..., None], part, 0.0)

    def _reached(self, change: mx.array, start: int, length: int, reach: int) -> mx.array:
        """For each value, the gradient of the token that sees it at one place of the kernel."""
        part = slice(start, start + length)
        own, others = _padded(self._records, reach, 0), _padded(self._records, reach, reach)
        return mx.where((own == others[:, part])[..., None], change[:, part], 0.0)


def _weighted(parts: list[mx.array], weight: mx.array) -> mx.array:
    """The sum of the parts, each times the weight at its place of the kernel, in float32."""
    kernel = weight.astype(mx.float32)
    total = parts[0] * kernel[:, 0, 0]
    for at, part in enumerate(parts[1:], 1):
        total = total + part * kernel[:, at, 0]
    return total


def _padded(records: mx.array, before: int, after: int) -> mx.array:
    """The records with others around the row that no token belongs to."""
    return mx.pad(records, [(0, 0), (before, after)], constant_values=mx.array(-1, records.dtype))

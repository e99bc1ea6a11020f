"""Short causal convolutions of packed rows, which never reach into another record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from mlxft.compute.training import packing

Convolution = Callable[..., mx.array]


def training_convolution(otherwise: Convolution) -> Convolution:
    """`mx.conv1d` for training; `otherwise` is MLX's own.

    A convolution with one channel per group over a row and the tokens before it is taken for a
    causal one of tokens.
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
        records, reach = packing.records(), weight.shape[1] - 1
        plain = (stride, padding, dilation) == (1, 0, 1) and groups == weight.shape[0]
        if records is None or not plain or x.shape[1] != records.shape[1] + reach:
            return otherwise(x, weight, stride, padding, dilation, groups, **options)
        return _within_records(x, weight, records)

    return convolution


def _within_records(x: mx.array, weight: mx.array, records: mx.array) -> mx.array:
    rows, tokens = records.shape
    reach = weight.shape[1] - 1
    nothing = mx.full((rows, reach), -1, records.dtype)
    before = mx.concatenate([nothing, records], axis=1)
    total = mx.array(0.0, x.dtype)
    for at in range(reach + 1):
        part = slice(at, at + tokens)
        same = (before[:, part] == records)[..., None]
        total = total + mx.where(same, x[:, part], 0.0) * weight[:, at, 0]
    return total

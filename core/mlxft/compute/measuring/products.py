"""Matrix products: their speed by kind of weights, and whether they are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from mlxft.compute import backend
from mlxft.compute.measuring.device import device
from mlxft.compute.measuring.gradients import difference
from mlxft.compute.training.measured_operations import seconds_of
from mlxft.compute.training.quantized_products import ProductRules, UnpackingRule, product_by
from mlxft.self_test.figures import ProductFigures, ProductRequest

GROUP = 64

COMPARED = 32
"""Tokens whose outputs and gradients are compared: a CPU may be slow."""

Multiply = Callable[[mx.array], mx.array]


def measure(request: ProductRequest) -> ProductFigures:
    """Time a product and its gradient, and compare both with a plain one."""
    dtype = mx.float32 if backend.kind() == "cpu" else mx.bfloat16
    mx.random.seed(0)
    weight = (mx.random.normal((request.side, request.side)) / 32).astype(dtype)
    if request.bits is None:
        return _figures(request, f"{_name(dtype)}", dtype, weight, [lambda x: x @ weight.T])
    packed = mx.quantize(weight, GROUP, request.bits)
    mx.eval(packed)
    options = {"group_size": GROUP, "bits": request.bits, "transpose": True}

    def by(product: Any) -> Multiply:
        return lambda x: product(x, *packed, **options)

    rule = UnpackingRule(forward=1, backward=1, experts=1, source="self-test")
    unpacked = product_by(ProductRules(otherwise=rule), mx.quantized_matmul)
    plain = mx.dequantize(*packed, GROUP, request.bits)
    ways = [by(mx.quantized_matmul), by(unpacked)]
    return _figures(request, f"{request.bits}-bit", dtype, plain, ways)


def _figures(
    request: ProductRequest, name: str, dtype: mx.Dtype, plain: mx.array, ways: list[Multiply]
) -> ProductFigures:
    """The figures of a product with the weight `plain`, computed in one or two ways."""
    x = mx.random.normal((1, request.tokens, request.side)).astype(dtype)
    change = mx.random.normal(x.shape).astype(dtype)
    mx.eval(x, change, plain)
    work = 2 * request.tokens * request.side**2 / 1e9

    def backward(product: Any) -> mx.array:
        return mx.vjp(product, [x], [change])[1][0]

    speeds = [
        (
            work / seconds_of(lambda product: product(x), way),
            work / seconds_of(backward, way),
        )
        for way in ways
    ]
    unpacked = speeds[1] if len(speeds) > 1 else (None, None)

    def expected(x: mx.array) -> mx.array:
        return x[:, :COMPARED] @ plain.astype(mx.float32).T

    def compared(way: Multiply) -> Multiply:
        return lambda x: way(x)[:, :COMPARED]

    return ProductFigures(
        device=device(),
        subject=name,
        tokens=request.tokens,
        forward=speeds[0][0],
        backward=speeds[0][1],
        unpacked_forward=unpacked[0],
        unpacked_backward=unpacked[1],
        difference=max(difference(compared(each), expected, [x], dtype) for each in ways),
        dtype=_name(dtype),
    )


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]

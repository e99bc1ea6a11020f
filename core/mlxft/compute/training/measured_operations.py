"""Short measurements of this device: what its attention keeps, and when unpacking weights pays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, TypedDict

import mlx.core as mx

from mlxft.compute import backend
from mlxft.compute.training.quantized_products import (
    Kind,
    Product,
    ProductRules,
    UnpackingRule,
    expert_product_by,
    product_by,
)

LENGTHS: Final = (1000, 2000)
"""Tokens of the rows whose attention is compared: no multiples that a kernel may need."""

_HEADS, _GROUPS = 4, 2

TOKENS: Final = (512, 1024, 2048)
"""Tokens with which products are timed; with fewer, CUDA compiles more kernels for minutes."""

SIDES: Final = (4096, 4096)
"""Outputs and inputs of the matrix."""

EXPERTS: Final = (16, 1024, 2048)
"""Experts, outputs and inputs of their matrices."""

FASTER: Final = 0.95
"""The share of the packed way's time that the unpacked one may take to be chosen."""

_REPEATS: Final = 5


class Crossovers(TypedDict):
    """From how many tokens on unpacking is faster; None for never."""

    forward: int | None
    backward: int | None
    experts: int | None


def keeps_scores(head_size: int) -> bool:
    """Whether the gradient of MLX's own causal attention keeps the scores of all pairs of tokens.

    Known from how much more the longer of two rows takes. Raises `ValueError` where MLX has no
    fused kernels for such heads.
    """
    peaks = [_peak(head_size, length) for length in LENGTHS]
    pairs = LENGTHS[1] ** 2 - LENGTHS[0] ** 2
    return peaks[1] - peaks[0] > 0.5 * _HEADS * pairs * mx.bfloat16.size


def _peak(head_size: int, tokens: int) -> int:
    """Bytes that attention and its gradient take."""
    shapes = [(1, heads, tokens, head_size) for heads in (_HEADS, _GROUPS, _GROUPS)]
    arrays = [mx.zeros(shape, mx.bfloat16) for shape in shapes]
    mx.eval(arrays)

    def total(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(
            q, k, v, scale=head_size**-0.5, mask="causal", force_fused=True
        ).sum()

    gradient = mx.value_and_grad(total, (0, 1, 2))
    return backend.peak_of(lambda: mx.eval(gradient(*arrays)))


def crossovers(kind: Kind, experts: bool) -> Crossovers:
    """From how many tokens on unpacking this kind of weights is faster, forward and backward."""
    times = {tokens: product_times(kind, tokens) for tokens in TOKENS}
    forward, backward = (
        least_tokens({tokens: pairs[at] for tokens, pairs in times.items()}) for at in (0, 1)
    )
    given = {tokens: expert_times(kind, tokens) for tokens in TOKENS} if experts else {}
    return {"forward": forward, "backward": backward, "experts": least_tokens(given)}


_Pair = tuple[float, float]
"""Seconds packed and unpacked."""


def least_tokens(times: dict[int, _Pair]) -> int | None:
    """The fewest tokens from which unpacking is faster for all that were timed."""
    least = None
    for tokens, (packed, unpacked) in sorted(times.items(), reverse=True):
        if unpacked > FASTER * packed:
            break
        least = tokens
    return least


def product_times(kind: Kind, tokens: int) -> tuple[_Pair, _Pair]:
    """The forward and the backward pass of one product."""
    weights, options = _weights(kind, SIDES)
    x = mx.random.normal((1, tokens, SIDES[1])).astype(mx.bfloat16)
    change = mx.random.normal((1, tokens, SIDES[0])).astype(mx.bfloat16)
    mx.eval(x, change)
    ways = [_unpacking(None, mx.quantized_matmul), _unpacking(1, mx.quantized_matmul)]

    def forward(product: Product) -> mx.array:
        return product(x, *weights, **options)

    def backward(product: Product) -> mx.array:
        _, (gradient,) = mx.vjp(lambda x: product(x, *weights, **options), [x], [change])
        return gradient

    packed, unpacked = ([seconds_of(each, way) for each in (forward, backward)] for way in ways)
    return (packed[0], unpacked[0]), (packed[1], unpacked[1])


def expert_times(kind: Kind, tokens: int) -> _Pair:
    """Both passes of a product of sorted tokens with experts' matrices."""
    weights, options = _weights(kind, EXPERTS)
    x = mx.random.normal((tokens, 1, EXPERTS[2])).astype(mx.bfloat16)
    change = mx.random.normal((tokens, 1, EXPERTS[1])).astype(mx.bfloat16)
    indices = mx.sort(mx.random.randint(0, EXPERTS[0], (tokens,))).astype(mx.uint32)
    mx.eval(x, change, indices)
    packed_way = mx.gather_qmm
    rules = [ProductRules(otherwise=_rule(least)) for least in (None, 1)]
    ways = [expert_product_by(each, packed_way) for each in rules]

    def both(product: Product) -> Sequence[mx.array]:
        outputs, gradients = mx.vjp(
            lambda x: product(
                x, *weights, rhs_indices=indices, transpose=True, sorted_indices=True, **options
            ),
            [x],
            [change],
        )
        return [*outputs, *gradients]

    packed, unpacked = (seconds_of(both, way) for way in ways)
    return packed, unpacked


def _weights(kind: Kind, shape: Sequence[int]) -> tuple[tuple[mx.array, ...], dict[str, Any]]:
    """Quantized random weights, and the options of products with them."""
    mode, bits, group = kind
    dense = (mx.random.normal(shape) / 64).astype(mx.bfloat16)
    weights = mx.quantize(dense, group, bits, mode=mode)
    mx.eval(weights)
    return tuple(weights), {"group_size": group, "bits": bits, "mode": mode}


def _rule(least: int | None) -> UnpackingRule:
    return UnpackingRule(forward=least, backward=least, experts=least, source="timed")


def _unpacking(least: int | None, packed: Product) -> Product:
    return product_by(ProductRules(otherwise=_rule(least)), packed)


def seconds_of(compute: Callable[[Product], Any], product: Product) -> float:
    """The median time of a computation, after two that also compile kernels."""
    ends = [time.perf_counter()]
    for _ in range(2 + _REPEATS):
        mx.eval(compute(product))
        mx.synchronize()
        ends.append(time.perf_counter())
    return statistics.median(after - before for before, after in pairwise(ends[2:]))

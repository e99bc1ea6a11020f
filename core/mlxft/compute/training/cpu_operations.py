"""What MLX's CPU backend computes slowly or in much memory, computed from what it does well.

Its exp takes three times as long as its power, and a quarter of a step's time. Its attention keeps
the scores of all pairs of tokens for the backward pass, also of tokens that a mask keeps apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import e, log2, pi, sqrt
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn

from mlxft.compute.training import packing

_LOG2_E: Final = log2(e)

BLOCK: Final = 128
"""Queries whose scores are there at once."""

_Attention = Callable[..., mx.array]


@contextmanager
def replaced() -> Iterator[None]:
    """Let models compute their activations and attention by this room's functions.

    mlx_lm's models look them up in MLX's modules at each call.
    """
    attention = _attention_before(mx.fast.scaled_dot_product_attention)
    functions: tuple[tuple[Any, str, Any], ...] = (
        (mx.fast, "scaled_dot_product_attention", attention),
        (nn, "silu", _silu),
        (nn, "gelu_approx", _gelu_approx),
    )
    before = [getattr(module, name) for module, name, _ in functions]
    for module, name, function in functions:
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name, _), function in zip(functions, before, strict=True):
            setattr(module, name, function)


def _sigmoid(x: mx.array) -> mx.array:
    return mx.reciprocal(1.0 + mx.power(2.0, x * -_LOG2_E))


def _sigmoid_vjp(_: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output * (1.0 - output)


_differentiable_sigmoid: Any = mx.custom_function(_sigmoid)
_differentiable_sigmoid.vjp(_sigmoid_vjp)


def _silu(x: mx.array) -> mx.array:
    """`nn.silu`."""
    activated: mx.array = x * _differentiable_sigmoid(x)
    return activated


def _gelu_approx(x: mx.array) -> mx.array:
    """`nn.gelu_approx`: half of one and a hyperbolic tangent is a sigmoid of twice as much."""
    activated: mx.array = x * _differentiable_sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x**3))
    return activated


def _attention_before(otherwise: _Attention) -> _Attention:
    """`mx.fast.scaled_dot_product_attention`, which goes on doing what isn't done here."""

    def attention(
        q: mx.array,
        k: mx.array,
        v: mx.array,
        *,
        scale: float,
        mask: Any = None,
        **options: Any,
    ) -> mx.array:
        plain = q.dtype == mx.float32 and q.shape[2] == k.shape[2] and not _any(options)
        ends = packing.ends_of(mask) if isinstance(mask, mx.array) else None
        if plain and ends is not None:
            return _record_by_record(q, k, v, scale, ends)
        if plain and isinstance(mask, str):
            return _causal_attention(q, k, v, scale)
        return otherwise(q, k, v, scale=scale, mask=mask, **options)

    return attention


def _any(options: dict[str, Any]) -> bool:
    return any(value is not None for value in options.values())


def _record_by_record(
    q: mx.array, k: mx.array, v: mx.array, scale: float, ends: list[list[int]]
) -> mx.array:
    """Attention within the records of packed rows, which end at these positions of each row."""
    rows = zip(*(mx.split(each, len(ends)) for each in (q, k, v)), ends, strict=True)
    results = []
    for *row, inner in rows:
        records = zip(*(mx.split(each, inner, axis=2) for each in row), strict=True)
        parts = [_causal_attention(q, k, v, scale) for q, k, v in records]
        results.append(mx.concatenate(parts, axis=2))
    return mx.concatenate(results)


def _causal_attention(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
    """What each token takes from those up to itself, in memory that grows with their number.

    `q` is (rows, heads, tokens, size), `k` and `v` may have fewer heads. Scores are made for some
    queries after the others and made again on the way back, as in Dao et al., FlashAttention, 2022.
    """
    rows, heads, tokens, _ = q.shape
    groups = k.shape[1]
    grouped = q.reshape(rows, groups, heads // groups, tokens, -1)
    result: mx.array = _grouped_attention(scale)(grouped, k, v)
    return result.reshape(rows, heads, tokens, -1)


def _grouped_attention(scale: float) -> Any:
    """The same of queries that are (rows, groups, heads of a group, tokens, size)."""

    def forward(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        done: list[mx.array] = []
        for part in _parts(q.shape[3]):
            queries, keys, values = _after(done, q[..., part, :], *_seen(part, k, v))
            done.append(_times(_probabilities(queries, keys, scale), values))
        return done[0] if len(done) == 1 else mx.concatenate(done, axis=3)

    def backward(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        q, k, v = primals
        of_queries: list[mx.array] = []
        of_keys: mx.array | None = None
        of_values: mx.array | None = None
        for part in reversed(_parts(q.shape[3])):
            before = [each for each in (of_keys, of_values) if each is not None] + of_queries[-1:]
            queries, result, change, keys, values = _after(
                before,
                q[..., part, :],
                output[..., part, :],
                cotangent[..., part, :],
                *_seen(part, k, v),
            )
            weights = _probabilities(queries, keys, scale)
            of_values = _summed(of_values, _transposed_times(weights, change))
            rest = (change * result).sum(axis=-1, keepdims=True)
            of_scores = weights * (_times(change, values.swapaxes(-1, -2)) - rest)
            of_queries.append(_times(of_scores, keys) * scale)
            of_keys = _summed(of_keys, _transposed_times(of_scores, queries) * scale)
        return mx.concatenate(of_queries[::-1], axis=3), of_keys, of_values

    function: Any = mx.custom_function(forward)
    function.vjp(backward)
    return function


def _parts(tokens: int) -> list[slice]:
    return [slice(at, min(at + BLOCK, tokens)) for at in range(0, tokens, BLOCK)]


def _seen(part: slice, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
    """The keys and values that these queries may look at."""
    return k[:, :, : part.stop], v[:, :, : part.stop]


def _after(before: list[mx.array], *arrays: mx.array) -> list[mx.array]:
    """The arrays, which wait for what was computed before: else all parts are at work at once."""
    return mx.depends(list(arrays), before[-3:]) if before else list(arrays)


def _probabilities(queries: mx.array, keys: mx.array, scale: float) -> mx.array:
    """(rows, groups, heads of a group, queries, keys), the queries being the last of the keys."""
    many, all_ = queries.shape[3], keys.shape[2]
    scores = _times(queries * (scale * _LOG2_E), keys.swapaxes(-1, -2))
    allowed = mx.arange(all_ - many, all_)[:, None] >= mx.arange(all_)[None]
    scores = scores + mx.where(allowed, 0.0, -mx.inf)
    powers = mx.power(2.0, scores - scores.max(axis=-1, keepdims=True))
    return powers * mx.reciprocal(powers.sum(axis=-1, keepdims=True))


def _times(a: mx.array, b: mx.array) -> mx.array:
    """Products of a group's heads, (…, heads, n, m), with what they share, (…, m, size)."""
    *outer, heads, many, inner = a.shape
    return (a.reshape(*outer, heads * many, inner) @ b).reshape(*outer, heads, many, -1)


def _transposed_times(a: mx.array, b: mx.array) -> mx.array:
    """The sum over a group's heads of (…, heads, n, m) transposed with (…, heads, n, size)."""
    *outer, heads, many, inner = a.shape
    rows = a.reshape(*outer, heads * many, inner).swapaxes(-1, -2)
    return rows @ b.reshape(*outer, heads * many, -1)


def _summed(longer: mx.array | None, shorter: mx.array) -> mx.array:
    """A sum of two of which one has fewer tokens."""
    if longer is None:
        return shorter
    many = shorter.shape[2]
    return mx.concatenate([longer[:, :, :many] + shorter, longer[:, :, many:]], axis=2)

"""Attention for training, in memory that grows with the number of tokens and not with its square.

A backend's own attention keeps the scores of all pairs of tokens for the backward pass unless its
gradient is fused. Where it isn't, scores are computed here for one block of queries at a time, and
again in the backward pass, as in Dao et al., FlashAttention, 2022.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log2, prod
from math import e as EULER  # noqa: N812
from typing import Any, Final, Literal

import mlx.core as mx

from mlxft.compute.training import packing

Backend = Literal["metal", "cuda", "cpu"]
Attention = Callable[..., mx.array]

BLOCK: Final[dict[Backend, int]] = {"cpu": 128, "cuda": 512, "metal": 256}
"""The most queries whose scores exist at once: CUDA's was timed, Metal's is half of it for the sake
of memory with wide heads."""

MOST_SCORES: Final[dict[Backend, int]] = {"cpu": 2**27, "cuda": 2**27, "metal": 2**26}
"""Scores of a block at most, of all heads and rows: 2²⁷ are those of 512 queries of 32 heads in a
row of 8,192 tokens. In longer rows blocks have fewer queries; with as many, 32 heads of 256 took
0.24 MB a token more on an H200 than in short rows."""

FEWEST_QUERIES: Final = 32
"""Of a block, however long the rows."""

SHORT: Final = 256
"""Fewer tokens than this have small scores; the backend's own attention is faster for them."""

_LOG2_E: Final = log2(EULER)


@dataclass(frozen=True, kw_only=True)
class FusedGradient:
    """For which inputs a backend's attention has a gradient that keeps no scores."""

    heads: frozenset[tuple[int, int]]
    """Sizes of a query's and a value's head."""
    multiple: int
    """Of how many tokens the length must be a multiple."""
    measured: bool
    """Whether that was seen on such a device."""
    source: str


def _equal(sizes: Iterable[int]) -> frozenset[tuple[int, int]]:
    return frozenset((size, size) for size in sizes)


FUSED: Final[dict[Backend, FusedGradient | None]] = {
    "cpu": None,
    "cuda": FusedGradient(
        heads=_equal(range(1, 129)),
        multiple=128,
        measured=True,
        source="peaks measured on an H200 with mlx 0.32.4",
    ),
    "metal": FusedGradient(
        heads=_equal((64, 72, 80, 96, 128, 192, 256)) | {(96, 64)},
        multiple=1,
        measured=False,
        source="kernels and messages in the macOS wheel of mlx 0.32.4, which also say that a mask "
        "other than the causal one has no such gradient; not measured",
    ),
}
"""What is known of each backend; None where no gradient is fused."""

Way = Literal["backend", "fused", "padded", "blocks", "records"]


@dataclass(frozen=True, kw_only=True)
class AttentionChoice:
    """What a run knows and wants of attention.

    `wanted` is the recipe's; `fused` is what is known of the backend's gradient.
    """

    backend: Backend
    fused: FusedGradient | None
    wanted: Literal["auto", "backend", "blocks"] = "auto"

    def way(self, head: tuple[int, int], tokens: int, mask: Any) -> Way:
        """How attention under a mask is computed: by the backend as it chooses, by its fused
        kernels or not at all, after padding the length for them, in blocks of queries, or record by
        record in blocks. `head` is the size of a query's and of a value's head."""
        fused, causal = self.fused, isinstance(mask, str)
        masked = isinstance(mask, mx.array) and mask.dtype == mx.bool_
        if self.wanted == "backend" or mask is None:
            return "backend"
        if self.backend == "cpu":
            separated = packing.ends_of(mask) is not None
            return "records" if separated else "blocks" if causal else "backend"
        if self.wanted == "blocks":
            return "blocks" if causal or masked else "backend"
        if tokens < SHORT:
            return "backend"
        if causal and fused is not None and head in fused.heads:
            if tokens % fused.multiple:
                return "padded"
            return "fused" if self.backend == "metal" else "backend"
        return "blocks" if causal or masked else "backend"


def known_choice(backend: Backend) -> AttentionChoice:
    """The choice by the table alone."""
    return AttentionChoice(backend=backend, fused=FUSED[backend])


def training_attention(choice: AttentionChoice, otherwise: Attention) -> Attention:
    """`mx.fast.scaled_dot_product_attention` for training; `otherwise` is the backend's own."""
    backend = choice.backend

    def attention(
        q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any = None, **options: Any
    ) -> mx.array:
        given = any(value is not None for value in options.values())
        whole = q.shape[2] == k.shape[2] and (backend != "cpu" or q.dtype == mx.float32)
        head = (q.shape[-1], v.shape[-1])
        match choice.way(head, q.shape[2], mask) if whole and not given else "backend":
            case "records":
                return _record_by_record(q, k, v, scale, packing.ends_of(mask) or [])
            case "blocks":
                return _in_blocks(q, k, v, scale, mask, backend)
            case "fused":
                # Without this Metal keeps the scores where it has no kernel, and does not say so.
                with contextlib.suppress(ValueError):
                    return otherwise(q, k, v, scale=scale, mask=mask, force_fused=True)
                return _in_blocks(q, k, v, scale, mask, backend)
            case "padded" if choice.fused is not None:
                return _padded(q, k, v, scale, choice.fused.multiple, otherwise)
            case _:
                return otherwise(q, k, v, scale=scale, mask=mask, **options)

    return attention


def _padded(
    q: mx.array, k: mx.array, v: mx.array, scale: float, multiple: int, otherwise: Attention
) -> mx.array:
    """Causal attention by the backend, at the next length for which its gradient is fused.

    Causality keeps every real query from the keys added at the end.
    """
    tokens = q.shape[2]
    more = -tokens % multiple
    widths = [(0, 0), (0, 0), (0, more), (0, 0)]
    padded = (mx.pad(each, widths) for each in (q, k, v))
    return otherwise(*padded, scale=scale, mask="causal")[:, :, :tokens]


def _record_by_record(
    q: mx.array, k: mx.array, v: mx.array, scale: float, ends: list[list[int]]
) -> mx.array:
    """Attention within the records of packed rows, which end at these positions of each row."""
    rows, heads, tokens, _ = q.shape
    groups = k.shape[1]
    grouped = q.reshape(rows, groups, heads // groups, tokens, -1)
    result: mx.array = _Records(scale, ends).function(grouped, k, v)
    return result.reshape(rows, heads, tokens, -1)


class _Records:
    """Attention of a CPU within records, one after the other: MLX would compute many at once, in
    the memory of all. Queries are (rows, groups, heads of a group, tokens, size)."""

    def __init__(self, scale: float, ends: list[list[int]]) -> None:
        self._blocks, self._ends = _Blocks(scale, _causal, "cpu"), ends

    @property
    def function(self) -> Any:
        """A function of queries, keys and values with its own gradient."""
        function: Any = mx.custom_function(self._forward)
        function.vjp(self._backward)
        return function

    def _forward(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        done: list[mx.array] = []
        for row, record in self._records(q.shape[3]):
            own = _after(done, q[row, ..., record, :], k[row, :, record], v[row, :, record])
            done.append(self._blocks.forward(*own))
        return self._joined(done, axis=3)

    def _backward(self, primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        q, k, v = primals
        found: list[tuple[mx.array, ...]] = []
        for row, record in self._records(q.shape[3]):
            of_queries = (each[row, ..., record, :] for each in (q, cotangent, output))
            of_keys = (each[row, :, record] for each in (k, v))
            before = list(found[-1]) if found else []
            queries, change, result, keys, values = _after(before, *of_queries, *of_keys)
            found.append(self._blocks.backward((queries, keys, values), change, result))
        gradients = [list(each) for each in zip(*found, strict=True)]
        return [self._joined(each, axis) for each, axis in zip(gradients, (3, 2, 2), strict=True)]

    def _records(self, tokens: int) -> list[tuple[slice, slice]]:
        """The row and the tokens of each record."""
        return [
            (slice(row, row + 1), slice(start, end))
            for row, inner in enumerate(self._ends)
            for start, end in pairwise([0, *inner, tokens])
        ]

    def _joined(self, parts: list[mx.array], axis: int) -> mx.array:
        """The records' arrays as rows again."""
        rows, at = [], 0
        for inner in self._ends:
            own = parts[at : at + len(inner) + 1]
            rows.append(mx.concatenate(own, axis=axis))
            at += len(own)
        return mx.concatenate(rows)


def _in_blocks(
    q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Any, backend: Backend
) -> mx.array:
    """Causal attention for one block of queries at a time.

    `q` is (rows, heads, tokens, size); `k` and `v` may have fewer heads. A boolean `mask` is
    (rows or 1, heads or 1, tokens, tokens) and never allows a later token.
    """
    rows, heads, tokens, _ = q.shape
    groups = k.shape[1]
    grouped = q.reshape(rows, groups, heads // groups, tokens, -1)
    result: mx.array = _Blocks(scale, _allowed_by(mask, groups), backend).function(grouped, k, v)
    return result.reshape(rows, heads, tokens, -1)


_Allowed = Callable[[slice], mx.array]
"""Which keys up to the end of a block of queries each of them may attend to."""


def _causal(block: slice) -> mx.array:
    return mx.arange(block.start, block.stop)[:, None] >= mx.arange(block.stop)[None]


def _allowed_by(mask: Any, groups: int) -> _Allowed:
    """What a mask allows in a block. That of packed rows is made for each block, since the whole
    would grow with the square of the tokens; otherwise it is never computed."""
    packed = packing.packed_mask(mask)
    if packed is not None:
        return packed.allowed
    if not isinstance(mask, mx.array):
        return _causal
    whole = mask.reshape(*[1] * (4 - mask.ndim), *mask.shape)
    is_of_heads = whole.shape[1] > 1
    grouped = mx.unflatten(whole, 1, (groups, -1)) if is_of_heads else whole[:, :, None]
    return lambda block: grouped[..., block, : block.stop]


class _Blocks:
    """Attention of queries that are (rows, groups, heads of a group, tokens, size)."""

    def __init__(self, scale: float, allowed: _Allowed, backend: Backend) -> None:
        self._scale, self._allowed, self._backend = scale, allowed, backend

    @property
    def function(self) -> Any:
        """A function of queries, keys and values with its own gradient."""
        function: Any = mx.custom_function(self.forward)
        function.vjp(self.backward)
        return function

    def forward(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """The attention."""
        done: list[mx.array] = []
        for block in self._blocks(q):
            queries, keys, values = _after(done, q[..., block, :], *_seen(block, k, v))
            weights = self._weights(queries, keys, block).astype(q.dtype)
            done.append(_times(weights, values))
        return done[0] if len(done) == 1 else mx.concatenate(done, axis=3)

    def backward(self, primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        """The gradients by queries, keys and values."""
        q, k, v = primals
        of_queries: list[mx.array] = []
        of_keys: mx.array | None = None
        of_values: mx.array | None = None
        for block in reversed(self._blocks(q)):
            before = [each for each in (of_keys, of_values) if each is not None] + of_queries[-1:]
            # A compiled step would keep the forward pass's weights of an only block otherwise.
            before = before or [cotangent]
            queries, result, change, keys, values = _after(
                before,
                q[..., block, :],
                output[..., block, :],
                cotangent[..., block, :],
                *_seen(block, k, v),
            )
            weights = self._weights(queries, keys, block)
            rest = (change * result).astype(mx.float32).sum(axis=-1, keepdims=True)
            of_scores = weights * (_times(change, values.swapaxes(-1, -2)) - rest)
            weights, of_scores = weights.astype(q.dtype), of_scores.astype(q.dtype)
            of_values = _summed(of_values, _transposed_times(weights, change))
            of_queries.append(_times(of_scores, keys) * self._scale)
            of_keys = _summed(of_keys, _transposed_times(of_scores, queries) * self._scale)
        return mx.concatenate(of_queries[::-1], axis=3), of_keys, of_values

    def _blocks(self, q: mx.array) -> list[slice]:
        """Blocks of nearly equal size: of a short last one, memory would grow in leaps."""
        *outer, tokens, _ = q.shape
        fitting = max(FEWEST_QUERIES, MOST_SCORES[self._backend] // (prod(outer) * tokens))
        size = _rounded_up(tokens / ceil(tokens / min(BLOCK[self._backend], fitting)))
        return [slice(at, min(at + size, tokens)) for at in range(0, tokens, size)]

    def _weights(self, queries: mx.array, keys: mx.array, block: slice) -> mx.array:
        """Attention weights in float32: (rows, groups, heads of a group, queries, keys)."""
        allowed = self._allowed(block)
        if self._backend != "cpu":
            scores = _times(queries * self._scale, keys.swapaxes(-1, -2)).astype(mx.float32)
            return mx.softmax(mx.where(allowed, scores, -mx.inf), axis=-1)
        # A CPU's exp takes three times as long as its power.
        scores = _times(queries * (self._scale * _LOG2_E), keys.swapaxes(-1, -2))
        scores = scores + mx.where(allowed, 0.0, -mx.inf)
        powers = mx.power(2.0, scores - scores.max(axis=-1, keepdims=True))
        return powers * mx.reciprocal(powers.sum(axis=-1, keepdims=True))


def _rounded_up(queries: float) -> int:
    """The next multiple of 8, which kernels of products like."""
    return 8 * ceil(queries / 8)


def _seen(block: slice, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
    """The keys and values up to the block's last query."""
    return k[:, :, : block.stop], v[:, :, : block.stop]


def _after(before: list[mx.array], *arrays: mx.array) -> list[mx.array]:
    """The arrays, to be used only once `before` is computed: else all blocks are computed at once,
    in the memory of all."""
    return mx.depends(list(arrays), before[-3:]) if before else list(arrays)


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
    """The sum of two arrays of which the second has fewer tokens."""
    if longer is None:
        return shorter
    many = shorter.shape[2]
    return mx.concatenate([longer[:, :, :many] + shorter, longer[:, :, many:]], axis=2)

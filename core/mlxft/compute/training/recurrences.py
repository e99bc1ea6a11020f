"""Linear recurrences in chunks of tokens, for training.

A recurrence decays its state by a gate, writes a value under a key and reads with a query, token by
token. The gated delta rule writes only what the state doesn't already hold under the key. Within a
chunk both are matrix products: the delta rule needs the inverse of a unit triangular matrix (the WY
representation; Yang et al., Gated Delta Networks, 2024), a plain recurrence doesn't (Dao and Gu,
Transformers are SSMs, 2024). Only the states between chunks are kept for the backward pass, which
computes the chunks again, one span of them after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

import mlx.core as mx
import numpy as np

from mlxft.compute.training import cuda_kernels
from mlxft.compute.training.attention import Backend
from mlxft.compute.training.decays import Decays, Resets, earlier

CHUNK: Final = 64
"""Tokens of a chunk: on a CPU as fast as 32 in less memory, and a third faster than 128."""

SPAN_BYTES: Final[dict[Backend, int]] = {"cpu": 0, "cuda": 2**26, "metal": 2**24}
"""Of the largest float32 array of the chunks computed at once; a GPU needs many to be busy.

The backward pass needs 26 such arrays. On an H200 a step of Qwen3.5 0.8B, 4 × 2,048 tokens, took
0.7 GB more with 2²⁶ than with 2²⁴; Metal is not measured.
"""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A recurrence's inputs: (rows, tokens, heads, channels), gates as logarithms.

    `q` and `k` may have fewer heads than `v`. Gates have one channel or as many as the keys.
    Without `beta`, of one channel, values are written as they are; with it by the delta rule.
    `state` is (rows, heads, key channels, value channels).
    """

    q: mx.array
    k: mx.array
    v: mx.array
    gates: mx.array
    state: mx.array
    beta: mx.array | None = None


def recurrence(
    inputs: Inputs, backend: Backend, records: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """What the queries read, (rows, tokens, heads, value channels), and the last state.

    `records`, (rows, tokens), numbers the records of packed rows; the state is reset where one
    begins.
    """
    rows, _, groups, channels = inputs.k.shape
    heads, values = inputs.v.shape[2:]
    grouped = inputs.state.reshape(rows, groups, heads // groups, channels, values)
    arrays = [inputs.q, inputs.k, inputs.v, inputs.gates, grouped]
    if inputs.beta is not None:
        arrays.append(inputs.beta)
    if records is not None:
        # A state given belongs to the row's first record.
        records = mx.concatenate([records[:, :1], records], axis=1)
    reads, last, _ = _Chunked(backend, records).function(*arrays)
    return reads, last.reshape(rows, heads, channels, values)


@dataclass(frozen=True)
class _Span:
    """Consecutive chunks of equal size; the last of a row may be filled up with empty tokens."""

    start: int
    tokens: int
    chunks: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.tokens

    def cut(self, array: mx.array, groups: int) -> mx.array:
        """(rows, tokens, heads, channels) → (rows, groups, heads of a group, chunks, size,
        channels)."""
        rows, _, heads, channels = array.shape
        part = array[:, self.start : self.stop].astype(mx.float32)
        if more := self.chunks * self.size - self.tokens:
            part = mx.pad(part, [(0, 0), (0, more), (0, 0), (0, 0)])
        parts = part.reshape(rows, self.chunks, self.size, groups, heads // groups, channels)
        return mx.contiguous(parts.transpose(0, 3, 4, 1, 2, 5))

    def joined(self, chunks: mx.array) -> mx.array:
        """The inverse of `cut`."""
        tokens = chunks.transpose(0, 3, 4, 1, 2, 5)
        rows, many, size, groups, heads, channels = tokens.shape
        return tokens.reshape(rows, many * size, groups * heads, channels)[:, : self.tokens]

    def resets(self, records: mx.array) -> Resets:
        """Where records begin, from those of the token before the row and of all tokens."""
        part = records[:, self.start + 1 : self.stop + 1]
        if more := self.chunks * self.size - self.tokens:
            part = mx.concatenate([part, mx.repeat(part[:, -1:], more, axis=1)], axis=1)
        chunks = part.reshape(part.shape[0], 1, 1, self.chunks, self.size)
        first = records[:, self.start, None, None, None, None]
        before = mx.concatenate([first, chunks[..., :-1, -1:]], axis=-2)
        return Resets.of(chunks, before)


class _Chunked:
    """A recurrence over whole rows as a function with its own gradient."""

    def __init__(self, backend: Backend, records: mx.array | None) -> None:
        self._backend, self._records = backend, records

    @property
    def function(self) -> Any:
        """From the arrays of `Inputs` to reads, last state and the states before each chunk."""
        function: Any = mx.custom_function(self._forward)
        function.vjp(self._backward)
        return function

    def _forward(self, *arrays: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        state = arrays[4]
        reads: list[mx.array] = []
        states: list[mx.array] = []
        for span in self._spans(arrays[2]):
            chunks = self._chunks(span, arrays, [*reads[-1:], state])
            before, writes, state = chunks.passed(state)
            reads.append(span.joined(chunks.reads(before, writes)).astype(arrays[2].dtype))
            states.append(before)
        return _whole(reads, 1), state, _whole(states, 3)

    def _backward(self, primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        change, of_state, _ = cotangents
        groups, at = primals[1].shape[2], outputs[2].shape[3]
        found: list[list[mx.array]] = []
        for span in reversed(self._spans(primals[2])):
            done = [*found[-1], of_state] if found else [change, of_state]
            chunks = self._chunks(span, primals, done)
            at -= span.chunks
            before, part = mx.depends(
                [outputs[2][:, :, :, at : at + span.chunks], span.cut(change, groups)], done
            )
            of_state, *gradients = chunks.gradients(before, part, of_state)
            found.append(
                [
                    span.joined(each).astype(primal.dtype)
                    for each, primal in zip(gradients, [*primals[:4], *primals[5:]], strict=True)
                ]
            )
        whole = [_whole(parts[::-1], 1) for parts in map(list, zip(*found, strict=True))]
        return (*whole[:4], of_state.astype(primals[4].dtype), *whole[4:])

    def _spans(self, v: mx.array) -> list[_Span]:
        rows, tokens, heads, channels = v.shape
        token_bytes = 4 * rows * heads * channels
        most = CHUNK * max(1, SPAN_BYTES[self._backend] // (token_bytes * CHUNK))
        filled = tokens - tokens % CHUNK
        starts = range(0, filled, most)
        parts = [(at, min(most, filled - at)) for at in starts]
        spans = [_Span(at, many, many // CHUNK, CHUNK) for at, many in parts]
        if rest := tokens - filled:
            spans.append(_Span(filled, rest, 1, 2 ** (rest - 1).bit_length()))
        return spans

    def _chunks(self, span: _Span, arrays: Sequence[mx.array], done: list[mx.array]) -> _Chunks:
        """A span's chunks, to be computed once `done` is: else all are computed at once."""
        groups = arrays[1].shape[2]
        q, k, v, gates, _, *beta = arrays
        cut = [span.cut(each, groups) for each in mx.depends([q, k, v, gates, *beta], done)]
        resets = None if self._records is None else span.resets(self._records)
        decays = Decays(cut[3], resets)
        return _Chunks(cut[0], cut[1], cut[2], decays, cut[4] if beta else None)


@dataclass(frozen=True)
class _Chunks:
    """Chunks of (rows, groups, heads, chunks, tokens, channels), and what they read and write.

    A chunk's writes are `written` minus what the state before it holds under its keys, `erased`
    times the state.
    """

    q: mx.array
    k: mx.array
    v: mx.array
    decays: Decays
    beta: mx.array | None

    def passed(self, state: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """The states before each chunk, its writes, and the state after the last."""
        kept, whole = _transposed(self._kept_keys), self.decays.whole
        if self.v.shape[3] == 1:
            states = state[:, :, :, None]
            writes = self._writes(states)
            return states, writes, mx.addmm(whole * states, kept, writes).squeeze(3)
        factors = whole
        if self.beta is not None:
            factors = self._decay - _transposed(self._erased) @ self._kept_keys
        states, last = passed_through(factors, kept @ self._written, state)
        return states, self._writes(states), last

    @property
    def _decay(self) -> mx.array:
        """Through each chunk: (…, chunks, channels, channels), 0 beside the diagonal."""
        return self.decays.whole * mx.eye(self.k.shape[-1])

    def _writes(self, states: mx.array) -> mx.array:
        if self.beta is None:
            return self._written
        return mx.addmm(self._written, self._erased, states, alpha=-1.0)

    def reads(self, states: mx.array, writes: mx.array) -> mx.array:
        """What the queries read from the state before the chunk and from its writes."""
        return mx.addmm(self._queries @ states, self._scores, writes)

    def gradients(
        self, states: mx.array, change: mx.array, of_state: mx.array
    ) -> tuple[mx.array, ...]:
        """The gradients by the state before the first chunk, and by q, k, v, gates and beta.

        `change` is the gradient by the reads, `of_state` by the state after the last chunk.
        """
        writes = self._writes(states)
        by_reads = _transposed(self._scores) @ change
        of_state, after = self._passed_back(change, by_reads, of_state)
        of_writes = mx.addmm(by_reads, self._kept_keys, after)
        of_kept = writes @ _transposed(after)
        of_queries = change @ _transposed(states)
        changes = [change @ _transposed(writes)]
        rows, products = [self.q], [self._scores]
        start = of_queries * self._queries
        of_v, of_keys, of_beta = of_writes, of_kept * self.decays.end, None
        if self.beta is not None:
            solved = _transposed(self._inverse) @ of_writes
            of_v = self.beta * solved
            of_started = -of_v @ _transposed(states)
            of_weights = -(solved @ _transposed(writes)) * earlier(self.v.shape[-2])
            held = mx.addmm(self.v, self._started_keys, states, alpha=-1.0)
            of_beta = (solved * held).sum(axis=-1, keepdims=True) + (
                of_weights * self._overlaps
            ).sum(axis=-1, keepdims=True)
            rows, products = [self.q, self.k], [self._scores, self._overlaps]
            changes.append(self.beta * of_weights)
            start = start + of_started * self._started_keys
            of_keys = of_keys + of_started * self.decays.start
        of_rows, by_keys, of_gates = self.decays.gradients(rows, self.k, products, changes)
        of_keys = of_keys + by_keys
        if self.beta is not None:
            of_keys = of_keys + of_rows[1]
        decayed = self.decays.whole * (after * states).sum(axis=-1, keepdims=True)
        of_gates = of_gates + self.decays.of_gates(start, of_kept * self._kept_keys, decayed)
        of_q = of_rows[0] + of_queries * self.decays.start
        gradients = _by_group(of_q), _by_group(of_keys), of_v, of_gates
        return (of_state, *gradients) if of_beta is None else (of_state, *gradients, of_beta)

    def _passed_back(
        self, change: mx.array, by_reads: mx.array, of_state: mx.array
    ) -> tuple[mx.array, mx.array]:
        """The gradient by the state before the first chunk, and by the states after each."""
        own, whole = _transposed(self._queries) @ change, self.decays.whole
        if self.beta is not None:
            own = mx.addmm(own, _transposed(self._erased), by_reads, alpha=-1.0)
        if self.v.shape[3] == 1:
            after = of_state[:, :, :, None]
            passed = whole * after + own
            if self.beta is not None:
                of_writes = self._kept_keys @ after
                passed = mx.addmm(passed, _transposed(self._erased), of_writes, alpha=-1.0)
            return passed.squeeze(3), after
        factors = whole
        if self.beta is not None:
            factors = self._decay - _transposed(self._kept_keys) @ self._erased
        after, of_first = passed_through(factors, own, of_state, backward=True)
        return of_first, after

    @cached_property
    def _products(self) -> list[mx.array]:
        rows = [self.q] if self.beta is None else [self.q, self.k]
        return self.decays.products(rows, self.k)

    @property
    def _scores(self) -> mx.array:
        """What a token's query reads of each write of the chunk."""
        return self._products[0]

    @property
    def _overlaps(self) -> mx.array:
        """What a token's key finds of each earlier write of the chunk."""
        return self._products[1]

    @cached_property
    def _queries(self) -> mx.array:
        return self.q * self.decays.start

    @cached_property
    def _started_keys(self) -> mx.array:
        return self.k * self.decays.start

    @cached_property
    def _kept_keys(self) -> mx.array:
        return self.k * self.decays.end

    @cached_property
    def _inverse(self) -> mx.array:
        """From what tokens write alone to what they write after each other."""
        assert self.beta is not None
        return inverse_of_unit_lower(self.beta * self._overlaps)

    @cached_property
    def _written(self) -> mx.array:
        return self.v if self.beta is None else self._inverse @ (self.beta * self.v)

    @cached_property
    def _erased(self) -> mx.array:
        assert self.beta is not None
        return self._inverse @ (self.beta * self._started_keys)


def passed_through(
    factors: mx.array, added: mx.array, state: mx.array, *, backward: bool = False
) -> tuple[mx.array, mx.array]:
    """The states before each chunk and the one after the last, where a chunk makes of a state its
    factor times the state plus what it adds; `backward` begins with the last chunk.

    `factors` are (…, chunks, from channels, to channels), or of one column where each channel has
    its own.
    One chunk after the other: to join chunks in pairs takes fewer steps, but products of whole
    factors, and 2.7 of the 4.8 ms of a forward pass over 4 × 2,048 tokens on an H200.
    """
    if cuda_kernels.passes(factors, added):
        return cuda_kernels.passed_through(factors, added, state, backward=backward)
    is_matrix, chunks = factors.shape[-1] > 1, range(factors.shape[3])
    states = [state]
    for at in reversed(chunks) if backward else chunks:
        factor, more, last = factors[:, :, :, at], added[:, :, :, at], states[-1]
        passed = mx.addmm(more, _transposed(factor), last) if is_matrix else factor * last + more
        states.append(passed)
    *before, last = states
    return mx.stack(before[::-1] if backward else before, axis=3), last


def inverse_of_unit_lower(matrix: mx.array) -> mx.array:
    """The inverse of the identity plus a matrix's part below the diagonal.

    By blocks of twice the size at a time, which like forward substitution is stable for any matrix;
    a product of powers would cancel digits where keys repeat.
    """
    if cuda_kernels.inverts(matrix):
        return cuda_kernels.inverse_of_unit_lower(matrix)
    first, *others = _crossings(matrix.shape[-1])
    inverse = mx.eye(matrix.shape[-1]) - matrix * first
    for crossing in others:
        inverse = mx.addmm(inverse, inverse, (matrix * crossing) @ inverse, alpha=-1.0)
    return inverse


@cache
def _crossings(size: int) -> list[mx.array]:
    """1 where a later half of a block meets its earlier one, by the size of a half: 1, 2, 4, …

    Made once, so that no step computes or compiles them.
    """
    row, column = np.arange(size)[:, None], np.arange(size)[None]
    halves = [2**at for at in range(max(1, (size - 1).bit_length()))]
    return [
        mx.array((row // half == column // half + 1) & (row // half % 2 == 1), mx.float32)
        for half in halves
    ]


def _transposed(array: mx.array) -> mx.array:
    return array.swapaxes(-1, -2)


def _by_group(array: mx.array) -> mx.array:
    """The sum over the heads of a group."""
    return array if array.shape[2] == 1 else array.sum(axis=2, keepdims=True)


def _whole(parts: list[mx.array], axis: int) -> mx.array:
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=axis)

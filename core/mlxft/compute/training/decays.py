"""The decays of a recurrence within chunks of tokens, from the logarithms of its gates.

A state decays by each token's gate. Over several tokens it decays by the product, which is computed
as a sum of logarithms, never as a difference of sums: neither the decays nor their gradients lose
digits, however strong the gates. Gates are one per head or one per head and key channel.

Arrays are (…, tokens of a chunk, channels); a gate has 1 channel or as many as the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import mlx.core as mx
import numpy as np

Pair = tuple[mx.array, mx.array]


@dataclass(frozen=True, kw_only=True)
class Resets:
    """Where records begin in the chunks of packed rows, as factors of 0 or 1."""

    pairs: mx.array
    """(…, tokens, tokens): whether two tokens belong to one record."""
    first: mx.array
    """(…, tokens, 1): whether a token belongs to the record of the chunk's incoming state."""
    last: mx.array
    """(…, tokens, 1): whether a token belongs to the record that the chunk ends in."""

    @classmethod
    def of(cls, records: mx.array, before: mx.array) -> Resets:
        """From each token's record, (…, tokens), and the record of the state before, (…, 1)."""
        pairs = records[..., :, None] == records[..., None, :]
        first, last = records == before, records == records[..., -1:]
        return cls(
            pairs=pairs.astype(mx.float32),
            first=first.astype(mx.float32)[..., None],
            last=last.astype(mx.float32)[..., None],
        )


@dataclass(frozen=True)
class Decays:
    """The decays within chunks, from the logarithms of the gates, and where they are reset."""

    gates: mx.array
    resets: Resets | None = None

    @property
    def per_channel(self) -> bool:
        """Whether each key channel has its own gate."""
        return self.gates.shape[-1] > 1

    @cached_property
    def start(self) -> mx.array:
        """From the chunk's start through each token."""
        factor = mx.exp(mx.cumsum(self.gates, axis=-2))
        return factor * self.resets.first if self.resets else factor

    @cached_property
    def end(self) -> mx.array:
        """From after each token through the chunk's end."""
        factor = mx.exp(mx.cumsum(self.gates, axis=-2, reverse=True, inclusive=False))
        return factor * self.resets.last if self.resets else factor

    @cached_property
    def whole(self) -> mx.array:
        """Through the whole chunk, as a factor of the state's rows: (…, channels, 1)."""
        return self.start[..., -1, :, None]

    def products(self, rows: list[mx.array], keys: mx.array) -> list[mx.array]:
        """For each array of rows, its products with the keys of the same and of earlier tokens,
        decayed over the tokens between: (…, tokens, tokens), 0 for later ones."""
        if self.per_channel:
            products = _products_by_halves(self.gates, rows, keys)
            return [each * self.resets.pairs for each in products] if self.resets else products
        return [(each @ _transposed(keys)) * self._between for each in rows]

    def gradients(
        self,
        rows: list[mx.array],
        keys: mx.array,
        products: list[mx.array],
        changes: list[mx.array],
    ) -> tuple[list[mx.array], mx.array, mx.array]:
        """The gradients of `products`, by rows, keys and gates, from those of the results."""
        if self.per_channel:
            pairs = self.resets.pairs if self.resets else 1.0
            return _gradients_by_halves(self.gates, rows, keys, [pairs * c for c in changes])
        decayed = [change * self._between for change in changes]
        of_rows = [change @ keys for change in decayed]
        of_keys = _total([_transposed(c) @ each for each, c in zip(rows, decayed, strict=True)])
        of_decays = _total([c * each for c, each in zip(changes, products, strict=True)])
        over = mx.cumsum(of_decays, axis=-2, reverse=True) * earlier(self.gates.shape[-2])
        return of_rows, of_keys, over.sum(axis=-1, keepdims=True)

    def of_gates(self, start: mx.array, end: mx.array, whole: mx.array) -> mx.array:
        """The gradient by the gates, from the products of `start`, `end` and `whole` with the
        gradients by each."""
        if not self.per_channel:
            start, end = (each.sum(axis=-1, keepdims=True) for each in (start, end))
            whole = whole.sum(axis=-2, keepdims=True)
        through = mx.cumsum(start, axis=-2, reverse=True)
        after = mx.cumsum(end, axis=-2, inclusive=False)
        return through + after + whole.squeeze(-1)[..., None, :]

    @cached_property
    def _between(self) -> mx.array:
        """From after each token (columns) through a later one (rows): (…, tokens, tokens)."""
        tokens = self.gates.shape[-2]
        # A column's sum begins after its own token, so that nothing is subtracted.
        sums = mx.cumsum(self.gates * earlier(tokens), axis=-2)
        decays = mx.exp(sums) * _not_later(tokens)
        return decays * self.resets.pairs if self.resets else decays


@cache
def earlier(tokens: int) -> mx.array:
    """1 where a column's token is before a row's."""
    return mx.array(np.tri(tokens, k=-1, dtype=np.float32))


@cache
def _not_later(tokens: int) -> mx.array:
    return mx.array(np.tri(tokens, dtype=np.float32))


def _transposed(array: mx.array) -> mx.array:
    return array.swapaxes(-1, -2)


def _total(arrays: list[mx.array]) -> mx.array:
    total = arrays[0]
    for each in arrays[1:]:
        total = total + each
    return total


@dataclass(frozen=True)
class _Halves:
    """Chunks cut into pairs of halves: later tokens meet earlier ones at the cut between them.

    A decay between the halves is one up to the cut times one from it, and neither exceeds 1: a
    factored form over the whole chunk would overflow.
    """

    gates: mx.array
    size: int

    def split(self, array: mx.array) -> Pair:
        """The earlier and later halves: (…, pairs, size, channels)."""
        halves = self._cut(array)
        return halves[..., 0, :, :], halves[..., 1, :, :]

    def joined(self, earlier: mx.array, later: mx.array) -> mx.array:
        """The chunks again, from their halves."""
        both = mx.stack([earlier, later], axis=-3)
        return both.reshape(*both.shape[:-4], -1, both.shape[-1])

    @cached_property
    def decays(self) -> Pair:
        """Of the earlier half up to the cut, of the later half from it."""
        earlier, later = self.split(self.gates)
        up_to = mx.cumsum(earlier, axis=-2, reverse=True, inclusive=False)
        return mx.exp(up_to), mx.exp(mx.cumsum(later, axis=-2))

    def _cut(self, array: mx.array) -> mx.array:
        *outer, tokens, channels = array.shape
        return array.reshape(*outer, tokens // (2 * self.size), 2, self.size, channels)


def _all_halves(gates: mx.array) -> list[_Halves]:
    """From single tokens to halves of a chunk, whose tokens are a power of two."""
    tokens = gates.shape[-2]
    return [_Halves(gates, 2**at) for at in range(tokens.bit_length() - 1)]


def _products_by_halves(gates: mx.array, rows: list[mx.array], keys: mx.array) -> list[mx.array]:
    _, keys, *rows = mx.broadcast_arrays(gates, keys, *rows)
    blocks = [(each * keys).sum(axis=-1)[..., None, None] for each in rows]
    for halves in _all_halves(gates):
        up_to, since = halves.decays
        earlier = _transposed(halves.split(keys)[0] * up_to)
        crossing = [(halves.split(each)[1] * since) @ earlier for each in rows]
        blocks = [_merged(b, c) for b, c in zip(blocks, crossing, strict=True)]
    return [each.squeeze(-3) for each in blocks]


def _merged(diagonal: mx.array, crossing: mx.array) -> mx.array:
    """Lower triangular blocks of twice the size, from those on the diagonal and those below."""
    *outer, many, size, _ = diagonal.shape
    pairs = diagonal.reshape(*outer, many // 2, 2, size, size)
    first, second = pairs[..., 0, :, :], pairs[..., 1, :, :]
    above = mx.concatenate([first, mx.zeros_like(first)], axis=-1)
    return mx.concatenate([above, mx.concatenate([crossing, second], axis=-1)], axis=-2)


def _gradients_by_halves(
    gates: mx.array, rows: list[mx.array], keys: mx.array, changes: list[mx.array]
) -> tuple[list[mx.array], mx.array, mx.array]:
    _, keys, *rows = mx.broadcast_arrays(gates, keys, *rows)
    of_rows = [mx.zeros_like(each) for each in rows]
    of_keys, of_gates = mx.zeros_like(keys), mx.zeros_like(gates)
    blocks = [each[..., None, :, :] for each in changes]
    for halves in reversed(_all_halves(gates)):
        size = halves.size
        up_to, since = halves.decays
        earlier_keys = halves.split(keys)[0] * up_to
        by_earlier, by_later = mx.zeros_like(earlier_keys), mx.zeros_like(earlier_keys)
        for at, (each, block) in enumerate(zip(rows, blocks, strict=True)):
            later, crossing = halves.split(each)[1] * since, block[..., size:, :size]
            by_row = crossing @ earlier_keys
            by_earlier = by_earlier + _transposed(crossing) @ later
            by_later = by_later + by_row * later
            nothing = mx.zeros_like(by_row)
            of_rows[at] = of_rows[at] + halves.joined(nothing, by_row * since)
        nothing = mx.zeros_like(by_earlier)
        of_keys = of_keys + halves.joined(by_earlier * up_to, nothing)
        before = mx.cumsum(by_earlier * earlier_keys, axis=-2, inclusive=False)
        after = mx.cumsum(by_later, axis=-2, reverse=True)
        of_gates = of_gates + halves.joined(before, after)
        blocks = [_diagonal(each, size) for each in blocks]
    for at, block in enumerate(blocks):
        alone = block.squeeze(-1)
        of_rows[at] = of_rows[at] + alone * keys
        of_keys = of_keys + alone * rows[at]
    return of_rows, of_keys, of_gates


def _diagonal(blocks: mx.array, size: int) -> mx.array:
    """The blocks of half the size on the diagonal of each block."""
    both = mx.stack([blocks[..., :size, :size], blocks[..., size:, size:]], axis=-3)
    return both.reshape(*both.shape[:-4], -1, size, size)

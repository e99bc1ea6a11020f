"""Arrays in as few messages between ranks as hold them: each waits twice for the link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import mlx.core as mx
import numpy as np

from mlxft.compute.training.rank_orders import Sum

LARGEST_MESSAGE: Final = 2**26
"""Values of a message; the gradients of an adapter are one."""

SENT_AT_ONCE: Final = 2**20
"""Values of a message of weights: many, but few beside all."""


def grouped(arrays: Sequence[mx.array]) -> list[list[mx.array]]:
    """The arrays, as many together as a message holds."""
    numbers = iter(arrays)
    sizes = [each.size for each in arrays]
    return [[next(numbers) for _ in group] for group in _groups(sizes, LARGEST_MESSAGE)]


def broadcast(
    arrays: Mapping[str, mx.array], sum_of: Sum, *, sends: bool
) -> Iterator[dict[str, mx.array]]:
    """Some of rank 0's arrays after the others, on every rank; only rank 0 `sends`.

    All ranks have `arrays` in the same order, types and shapes; those of receivers aren't computed.
    They are added up as integers, which changes no bit.
    """
    named = iter(arrays.items())
    for sizes in _groups([-(-each.nbytes // 4) for each in arrays.values()], SENT_AT_ONCE):
        yield _sent(dict(next(named) for _ in sizes), sum_of, sends)


def _sent(arrays: Mapping[str, mx.array], sum_of: Sum, sends: bool) -> dict[str, mx.array]:
    words = [_words(each) for each in arrays.values()]
    whole = mx.concatenate(words)
    parts = [
        sum_of(part if sends else mx.zeros_like(part))
        for start in range(0, max(whole.size, 1), SENT_AT_ONCE)
        for part in [whole[start : start + SENT_AT_ONCE]]
    ]
    whole = parts[0] if len(parts) == 1 else mx.concatenate(parts)
    received = mx.split(whole, np.cumsum([each.size for each in words])[:-1].tolist())
    return {
        # A copy, which can be freed without the whole message.
        name: _of_words(words + 0, array)
        for (name, array), words in zip(arrays.items(), received, strict=True)
    }


def _groups(sizes: Sequence[int], largest: int) -> list[list[int]]:
    """Numbers of values, those of one message together."""
    groups: list[list[int]] = []
    total = largest
    for each in sizes:
        if total + each > largest:
            groups.append([])
            total = 0
        groups[-1].append(each)
        total += each
    return groups


def _words(array: mx.array) -> mx.array:
    """An array's bytes as integers of four, the last of them padded."""
    flat = array.reshape(-1).view(mx.uint8)
    return mx.pad(flat, (0, -flat.size % 4)).view(mx.int32)


def _of_words(words: mx.array, like: mx.array) -> mx.array:
    """The array that `_words` took apart, of this one's type and shape."""
    return words.view(mx.uint8)[: like.nbytes].view(like.dtype).reshape(like.shape)

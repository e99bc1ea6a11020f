"""Arrays in as few messages between ranks as hold them: each waits twice for the link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import mlx.core as mx
import numpy as np

from mlxft.compute.training.rank_orders import Sum

LARGEST_MESSAGE: Final = 2**26
"""Values of a message; the gradients of an adapter are one."""


def grouped(arrays: Sequence[mx.array]) -> list[list[mx.array]]:
    """The arrays, as many together as a message holds."""
    numbers = iter(arrays)
    return [[next(numbers) for _ in group] for group in _groups([each.size for each in arrays])]


def broadcast(arrays: Mapping[str, mx.array], sum_of: Sum, *, sends: bool) -> dict[str, mx.array]:
    """Rank 0's arrays on every rank, of which it alone `sends`; all have them in the same shapes.

    As integers, which are added up without a change of any bit.
    """
    found: dict[str, mx.array] = {}
    named = iter(arrays.items())
    for sizes in _groups([-(-each.nbytes // 4) for each in arrays.values()]):
        group = [next(named) for _ in sizes]
        whole = mx.concatenate([_words(array) for _, array in group])
        parts = [
            sum_of(part if sends else mx.zeros_like(part))
            for start in range(0, max(whole.size, 1), LARGEST_MESSAGE)
            for part in [whole[start : start + LARGEST_MESSAGE]]
        ]
        received = mx.split(mx.concatenate(parts), np.cumsum(sizes)[:-1].tolist())
        found |= {
            name: _of_words(words, array)
            for (name, array), words in zip(group, received, strict=True)
        }
        mx.eval(found)
    return found


def _groups(sizes: Sequence[int]) -> list[list[int]]:
    """Numbers of values, those of one message together."""
    groups: list[list[int]] = []
    total = LARGEST_MESSAGE
    for each in sizes:
        if total + each > LARGEST_MESSAGE:
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

"""Random values for the rows of one rank, drawn as those of the whole batch are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mlx.core as mx


class Place(NamedTuple):
    """Where a rank's rows are in their batch: `own` of them from row `first` on, of `rows`.

    Each has `length` inputs where one rank computes all of them. The batch has `blocks` of so many
    rows one after the other: of pairs the chosen answers, then the rejected ones.
    """

    first: int
    own: int
    rows: int
    length: int
    blocks: int = 1


def drawn(
    draw: Callable[[Sequence[int]], mx.array], shape: Sequence[int], place: Place | None
) -> mx.array:
    """Values of this shape, (rows, length, …), as `draw` gives them for all rows of the batch.

    So any number of ranks drops what one rank drops. It costs the values of the whole batch. Values
    that aren't in rows, as of tokens sorted by their experts, are drawn for this rank alone.
    """
    if place is None or len(shape) < 3 or shape[0] != place.blocks * place.own:
        return draw(shape)
    _, length, *rest = shape
    whole = draw((place.blocks * place.rows, place.length, *rest))
    blocks = whole.reshape(place.blocks, place.rows, place.length, *rest)
    found = blocks[:, place.first : place.first + place.own, :length]
    return found.reshape(*shape)

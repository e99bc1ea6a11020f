"""Several records in a row: attention that never crosses from one into another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from numpy.typing import NDArray

from mlxft.compute.arrays import number
from mlxft.compute.tokenization import first_line
from mlxft.compute.training.batches import BatchArrays, batch_arrays

_RECORD: Final = 17
"""Tokens of the record that a model is tried on."""

_TOLERANCE: Final = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
"""How far the mean loss may be off, in nats, by the type that the model computes in."""

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)

_masks: dict[int, tuple[mx.array, list[list[int]]]] = {}
"""The masks of the present pass by identity, and where in each row its records but the last end."""

_LossFunction = Callable[[Any, BatchArrays], tuple[mx.array, mx.array]]


class PackedCache:
    """What a layer asks for its mask, in place of a cache of keys and values.

    `segments` is (rows, width): which record a token is of. Positions run on from record to record,
    which rotary embeddings, being relative, don't notice.
    """

    offset = 0

    def __init__(self, segments: mx.array) -> None:
        self._segments = segments

    def make_mask(
        self, length: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array:
        """(rows, 1, width, width): true where a token may look at another."""
        position = mx.arange(length)
        back = position[:, None] - position[None]
        near = back >= 0 if window_size is None else (back >= 0) & (back < window_size)
        same = self._segments[:, :, None] == self._segments[:, None]
        mask = (same & near)[:, None]
        if _ON_CPU:
            ends, longest = _ends(self._segments)
            if window_size is None or longest <= window_size:
                _masks[id(mask)] = mask, ends
        return mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All keys and values are the row's own."""
        return keys, values


def ends_of(mask: mx.array) -> list[list[int]] | None:
    """Where the records of each row but its last end, if the mask does no more than part them.

    Known on a CPU only, where steps are not compiled and may have any shape.
    """
    found = _masks.get(id(mask))
    return None if found is None else found[1]


def _ends(segments: mx.array) -> tuple[list[list[int]], int]:
    """Where each row's records but the last end, and the tokens of the longest."""
    width = segments.shape[1]
    ends = [(np.flatnonzero(np.diff(row)) + 1).tolist() for row in np.asarray(segments)]
    return ends, max(int(np.diff([0, *row, width]).max()) for row in ends)


def caches(model: Any, segments: mx.array) -> list[PackedCache]:
    """The `cache` argument for a forward pass over packed rows, one for each of the model's own."""
    _masks.clear()
    return [PackedCache(segments)] * len(make_prompt_cache(model))


def refusal(model: Any, loss: _LossFunction, dtype: str, rows: int) -> str | None:
    """Why the model can't be trained on so many packed rows at once; None where it can.

    A record must have the loss alone that it has twice in a row: a model that saw the first would
    know the second by heart. Every other row is one record, so that no row's mask does for another.
    `dtype` is what the model computes in.
    """
    was_training = model.training
    model.eval()
    try:
        packed = [_row(times=2 - at % 2, length=_RECORD * (1 + at % 2)) for at in range(rows)]
        together = number(loss(model, _batch(packed))[0])
        apart = sum(_loss_alone(model, loss, row) for row in packed)
    except Exception as error:  # any model's own code may refuse the mask
        kinds = ", ".join(sorted({type(each).__name__ for each in make_prompt_cache(model)}))
        return f"what it keeps of earlier tokens ({kinds}) can't be masked ({first_line(error)})"
    finally:
        model.train(was_training)
    difference = abs(together - apart / sum(_targets(row) for row in packed))
    if difference <= _TOLERANCE[dtype]:
        return None
    return f"a record's loss beside another one is {difference:.1g} off that of it alone"


@dataclass(frozen=True)
class _Row:
    """A row that holds the same record so many times."""

    record: NDArray[np.int32]
    times: int


def _row(times: int, length: int) -> _Row:
    """Any tokens, which are in every vocabulary."""
    return _Row(np.random.default_rng(length).integers(0, 64, length, np.int32), times)


def _targets(row: _Row) -> int:
    return row.times * (len(row.record) - 1)


def _loss_alone(model: Any, loss: _LossFunction, row: _Row) -> float:
    """The sum of the row's losses, had each record a row of its own."""
    return number(loss(model, _batch([_Row(row.record, 1)]))[0]) * _targets(row)


def _batch(rows: list[_Row]) -> BatchArrays:
    """Rows of equal width as the loss takes them."""
    trained = [np.tile(np.arange(len(row.record)) > 0, row.times) for row in rows]
    segments = [np.repeat(np.arange(1, row.times + 1), len(row.record)) for row in rows]
    return batch_arrays(
        np.stack([np.tile(row.record, row.times) for row in rows]),
        np.stack(trained),
        np.stack(segments).astype(np.int32),
    )

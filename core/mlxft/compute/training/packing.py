"""Packing: several records in a row, with attention that never crosses between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import ArraysCache, CacheList, make_prompt_cache
from numpy.typing import NDArray

from mlxft.compute.arrays import number
from mlxft.compute.tokenization import first_line
from mlxft.compute.training.batches import BatchArrays, batch_arrays

_RECORD: Final = 17
"""Tokens of the record that a model is tested with."""

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)

_TOLERANCE: Final = {"float32": 3e-5 if _ON_CPU else 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
"""How far the mean loss may be off, in nats, by compute type."""

_masks: dict[int, tuple[mx.array, PackedMask]] = {}
"""The masks of the current pass by identity, and what they are made of."""

_records: list[mx.array] = []
"""The record of each token of the current pass, (rows, width), if its rows are packed."""

_LossFunction = Callable[[Any, BatchArrays], tuple[mx.array, mx.array]]


@dataclass(frozen=True, kw_only=True)
class PackedMask:
    """What a mask of packed rows is made of, so that no attention needs it as a whole.

    `segments` is (rows, width): the record of each token. With a `window` a token attends to so
    many at most. `ends` are the inner record boundaries of each row, where they are known and all
    that the mask says.
    """

    segments: mx.array
    window: int | None
    ends: list[list[int]] | None

    def allowed(self, block: slice) -> mx.array:
        """(rows, 1, 1, tokens of the block, tokens up to its end): True where one attends to
        another."""
        stop = block.stop
        back = mx.arange(block.start, stop)[:, None] - mx.arange(stop)[None]
        near = back >= 0 if self.window is None else (back >= 0) & (back < self.window)
        same = self.segments[:, block, None] == self.segments[:, None, :stop]
        return (same & near)[:, None, None]


class PackedCache:
    """Stands in for a layer's KV cache and supplies the mask.

    `segments` is (rows, width): the record of each token. Positions continue across records, which
    makes no difference to rotary embeddings, being relative.
    """

    offset = 0

    def __init__(self, segments: mx.array) -> None:
        self._segments = segments

    def make_mask(
        self, length: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array:
        """(rows, 1, width, width): True where a token attends to another."""
        ends = _ends(self._segments, window_size) if _ON_CPU else None
        packed = PackedMask(segments=self._segments, window=window_size, ends=ends)
        mask = packed.allowed(slice(0, length))[:, :, 0]
        _masks[id(mask)] = mask, packed
        return mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The row's own keys and values, since nothing is cached."""
        return keys, values


class PackedState:
    """Stands in for the cache of a recurrent layer, which starts each row without a state.

    Where a record begins is taken from `records`.
    """

    lengths = None

    def __init__(self, size: int) -> None:
        self._size = size

    def __getitem__(self, index: int) -> None:
        if index >= self._size:
            raise IndexError(index)

    def __setitem__(self, index: int, value: mx.array) -> None:
        """Nothing is cached."""

    def make_mask(self, length: int) -> None:
        """Padding follows the records, so none of them sees it."""

    def advance(self, count: int) -> None:
        """Nothing is cached."""


def records() -> mx.array | None:
    """The record of each token of the current pass, (rows, width); None if rows aren't packed."""
    return _records[0] if _records else None


def packed_mask(mask: Any) -> PackedMask | None:
    """What a mask is made of, if a packed row's cache has made it in the current pass."""
    found = _masks.get(id(mask))
    return None if found is None else found[1]


def ends_of(mask: Any) -> list[list[int]] | None:
    """The inner record boundaries of each row, if the mask only separates records; else None.

    Known on a CPU only, where steps are not compiled and may have any shape.
    """
    packed = packed_mask(mask)
    return None if packed is None else packed.ends


def _ends(segments: mx.array, window: int | None) -> list[list[int]] | None:
    """The inner record boundaries of each row; None where a record is longer than the window."""
    width = segments.shape[1]
    ends = [(np.flatnonzero(np.diff(row)) + 1).tolist() for row in np.asarray(segments)]
    longest = max(int(np.diff([0, *row, width]).max()) for row in ends)
    return ends if window is None or longest <= window else None


def caches(model: Any, segments: mx.array | None) -> list[Any] | None:
    """The `cache` argument for a forward pass: of packed rows one per cache of the model."""
    forget_records()
    if segments is None:
        return None
    _records.append(segments)
    attended = PackedCache(segments)
    return [_stand_in(each, attended) for each in make_prompt_cache(model)]


def forget_records() -> None:
    """Forget those of the last pass and their masks, before rows that aren't packed."""
    _records.clear()
    _masks.clear()


def _stand_in(cache: Any, attended: PackedCache) -> Any:
    if isinstance(cache, CacheList):
        return CacheList(*(_stand_in(each, attended) for each in cache.caches))
    return PackedState(len(cache.cache)) if isinstance(cache, ArraysCache) else attended


def longest_row(config: Mapping[str, Any]) -> int | None:
    """The tokens from which config.json scales attention by position, as in Ministral 3; None
    without such a scale.

    In bfloat16 a probe can't tell so small a difference from rounding.
    """
    inner = config.get("text_config")
    language = inner if isinstance(inner, Mapping) else config
    rope = language.get("rope_parameters")
    if not isinstance(rope, Mapping) or not rope.get("llama_4_scaling_beta"):
        return None
    found = rope.get("original_max_position_embeddings")
    return found if isinstance(found, int) else None


def refusal(model: Any, loss: _LossFunction, dtype: str, rows: int, width: int) -> str | None:
    """Why the model can't be trained on this number of packed rows; None if it can.

    Every record must have the same loss as alone: with attention across records one would be
    predictable from another, and with attention by absolute position one at the end of a row of
    `width` tokens would differ. `dtype` is the compute type.
    """
    was_training = model.training
    model.eval()
    try:
        difference = abs(_of_repeated_records(model, loss, rows))
        where = "next to another record"
        if difference <= _TOLERANCE[dtype] and width > 2 * _RECORD:
            difference = abs(_of_a_rows_last_record(model, loss, width))
            where = f"at the end of a row of {width} tokens"
    except Exception as error:  # A model's own code may refuse the mask.
        kinds = ", ".join(sorted({type(each).__name__ for each in make_prompt_cache(model)}))
        return f"its cache ({kinds}) can't be masked ({first_line(error)})"
    finally:
        caches(model, None)
        model.train(was_training)
    if difference <= _TOLERANCE[dtype]:
        return None
    return f"a record's loss changes by {difference:.1g} {where}"


def _of_repeated_records(model: Any, loss: _LossFunction, rows: int) -> float:
    """By how much the mean loss of records that are twice in a row differs from that alone.

    Every other row is a single record, so that masks differ between rows.
    """
    packed = [_row(times=2 - at % 2, length=_RECORD * (1 + at % 2)) for at in range(rows)]
    together = number(loss(model, _batch(packed))[0])
    apart = sum(_loss_alone(model, loss, row) for row in packed)
    return together - apart / sum(_targets(row) for row in packed)


def _of_a_rows_last_record(model: Any, loss: _LossFunction, width: int) -> float:
    """By how much the loss of the second of a row's two records differs from that alone.

    Their lengths are odd, so that no window or chunk of a model begins with the second.
    """
    last = max(_RECORD, width // 2 - 2) | 1
    tokens = np.random.default_rng(width).integers(0, 64, (1, width), np.int32)
    segments = np.where(np.arange(width) < width - last, 1, 2).astype(np.int32)[None]
    trained = np.arange(width)[None] > width - last
    together = number(loss(model, batch_arrays(tokens, trained, segments))[0])
    alone = np.ones((1, last), np.int32)
    return together - number(
        loss(model, batch_arrays(tokens[:, -last:], trained[:, -last:], alone))[0]
    )


@dataclass(frozen=True)
class _ProbeRow:
    """A row that repeats one record."""

    record: NDArray[np.int32]
    times: int


def _row(times: int, length: int) -> _ProbeRow:
    """Random tokens of ids that every vocabulary has."""
    return _ProbeRow(np.random.default_rng(length).integers(0, 64, length, np.int32), times)


def _targets(row: _ProbeRow) -> int:
    return row.times * (len(row.record) - 1)


def _loss_alone(model: Any, loss: _LossFunction, row: _ProbeRow) -> float:
    """The sum of the row's losses if each record had its own row."""
    return number(loss(model, _batch([_ProbeRow(row.record, 1)]))[0]) * _targets(row)


def _batch(rows: list[_ProbeRow]) -> BatchArrays:
    """A batch of rows of equal width."""
    trained = [np.tile(np.arange(len(row.record)) > 0, row.times) for row in rows]
    segments = [np.repeat(np.arange(1, row.times + 1), len(row.record)) for row in rows]
    return batch_arrays(
        np.stack([np.tile(row.record, row.times) for row in rows]),
        np.stack(trained),
        np.stack(segments).astype(np.int32),
    )

"""Weights of a GGUF file: unpacked, or in MLX's own layout where that holds their type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from gguf import GGMLQuantizationType, ReaderTensor
from gguf.quants import dequantize
from numpy.typing import NDArray

Values = np.ndarray[Any, np.dtype[Any]]

GROUP: Final = 32
"""Weights that share a scale in the types that MLX holds."""

KEPT: Final = {
    GGMLQuantizationType.Q8_0: 8,
    GGMLQuantizationType.Q4_1: 4,
    GGMLQuantizationType.Q4_0: 4,
}
"""The bits of types that are MLX's affine quantization with groups of 32 in another order."""


@dataclass(frozen=True)
class Packed:
    """A quantized matrix as MLX keeps it: weights = codes * scales + biases, group by group."""

    weight: NDArray[np.uint32]
    scales: NDArray[np.float16]
    biases: NDArray[np.float16]
    bits: int


def unpacked(tensor: ReaderTensor) -> Values:
    """A tensor's values in float32. Raises `NotImplementedError` for an unknown type."""
    values = dequantize(tensor.data, tensor.tensor_type)
    return np.asarray(values, np.float32).reshape(shape_of(tensor))


def shape_of(tensor: ReaderTensor) -> tuple[int, ...]:
    """The shape of a tensor's values, rows first."""
    return tuple(int(each) for each in reversed(tensor.shape))


def packed(tensor: ReaderTensor) -> Packed:
    """A tensor of a type in `KEPT`, with exactly its values."""
    kind, shape = tensor.tensor_type, shape_of(tensor)
    size = {8: 34, 4: 18 if kind == GGMLQuantizationType.Q4_0 else 20}[KEPT[kind]]
    blocks = np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1, size)
    scales = blocks[:, :2].copy().view(np.float16)[:, 0]
    if kind == GGMLQuantizationType.Q8_0:
        codes = (blocks[:, 2:] ^ 0x80).astype(np.uint8)
        biases = scales * np.float16(-128)
    else:
        at = 2 if kind == GGMLQuantizationType.Q4_0 else 4
        halves = np.concatenate([blocks[:, at:] & 15, blocks[:, at:] >> 4], axis=1)
        codes = halves[:, 0::2] | halves[:, 1::2] << 4
        biases = (
            scales * np.float16(-8) if at == 2 else blocks[:, 2:4].copy().view(np.float16)[:, 0]
        )
    rows = shape[:-1]
    return Packed(
        weight=np.ascontiguousarray(codes).view(np.uint32).reshape(*rows, -1),
        scales=scales.reshape(*rows, -1),
        biases=biases.reshape(*rows, -1),
        bits=KEPT[kind],
    )

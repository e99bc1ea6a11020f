"""Which tensors a GGUF file has, in which types: MLX skips or misreads some without an error."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

from mlxft.errors import ModelError

_READ_RIGHT: Final = frozenset({0, 1, 2, 3, 8, 10, 14, 30})
"""F32, F16, Q4_0, Q4_1, Q8_0, Q2_K, Q6_K and BF16."""

_OTHERS: Final = {
    6: "Q5_0",
    7: "Q5_1",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
}
"""The names of types that MLX doesn't read, or not right: Q4_K comes with other weights."""

_STRING, _ARRAY = 8, 9
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a metadata value by its type."""


def checked_tensors(path: Path) -> frozenset[str]:
    """The names of the file's tensors. Raises `ModelError` unless MLX reads all of them right."""
    try:
        with path.open("rb") as file:
            types = _tensor_types(file)
    except (OSError, ValueError, struct.error):
        raise ModelError(f"{path}: this is not a GGUF file that can be read.") from None
    if unread := set(types.values()) - _READ_RIGHT:
        kinds = sorted(_OTHERS.get(kind, f"type {kind}") for kind in unread)
        raise ModelError(
            f"{path}: MLX doesn't read tensors of {', '.join(kinds)} right; use a Q8_0 or F16 file "
            "of the model, or its Hugging Face original."
        )
    return frozenset(types)


def _tensor_types(file: BinaryIO) -> dict[str, int]:
    """Each tensor's type by name, from the header of a little-endian file."""
    magic, version, tensors, entries = _unpacked(file, "4sIQQ")
    if magic != b"GGUF" or version < 2:
        raise ValueError("not a GGUF file")
    for _ in range(entries):
        _string(file)
        _skip(file, *_unpacked(file, "I"))
    types = {}
    for _ in range(tensors):
        name = _string(file).decode()
        (dimensions,) = _unpacked(file, "I")
        *_, kind, _ = _unpacked(file, "Q" * dimensions + "IQ")
        types[name] = int(kind)
    return types


def _skip(file: BinaryIO, kind: int) -> None:
    """Skip a metadata value."""
    if kind == _STRING:
        _string(file)
    elif kind == _ARRAY:
        inner, count = _unpacked(file, "IQ")
        if inner in _SIZES:
            file.seek(_SIZES[inner] * count, 1)
            return
        for _ in range(count):
            _skip(file, inner)
    elif kind in _SIZES:
        file.seek(_SIZES[kind], 1)
    else:
        raise ValueError("unknown type of metadata")


def _string(file: BinaryIO) -> bytes:
    (length,) = _unpacked(file, "Q")
    text = file.read(min(length, 1 << 26))
    if len(text) != length:
        raise ValueError("the file ends within a text")
    return text


def _unpacked(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    layout = f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))

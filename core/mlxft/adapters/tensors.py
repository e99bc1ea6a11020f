"""The tensors of a safetensors file: what its header lists, and whether their values are finite."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlxft.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_HEADER: Final = 100_000_000
"""The longest header that the format allows, in bytes."""

BLOCK_BYTES: Final = 1 << 24

_EXPONENTS: Final = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
"""Of each floating-point type: the integer of its size, and the bits that NaN and infinity set."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor's type, shape, and place in its file in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a safetensors file lists."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def tensors_of(file: Path) -> Mapping[str, Tensor]:
    """The tensors that a safetensors file lists. Raises `ModelError` for a file that is cut off."""
    return header_of(file).tensors


def header_of(file: Path) -> Header:
    """The header of a safetensors file. Raises `ModelError` for a file that is cut off."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 0 < length <= min(MAX_HEADER, size - 8):
                raise _damaged(file)
            header = json.loads(opened.read(length))
        found = {
            name: _tensor(entry, 8 + length)
            for name, entry in header.items()
            if name != "__metadata__"
        }
        metadata = dict(header.get("__metadata__") or {})
    except OSError as error:
        raise ModelError(
            f"{file}: the adapter can't be read ({error.strerror}); choose another one."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(file) from None
    if any(each.end > size for each in found.values()):
        raise _damaged(file)
    return Header(tensors=found, metadata=metadata)


def _tensor(entry: Mapping[str, Any], offset: int) -> Tensor:
    start, end = entry["data_offsets"]
    return Tensor(
        dtype=str(entry["dtype"]),
        shape=tuple(int(each) for each in entry["shape"]),
        start=offset + int(start),
        end=offset + int(end),
    )


def _damaged(file: Path) -> ModelError:
    return ModelError(
        f"{file}: this is not a whole safetensors file: it was cut off or is of another type; "
        "copy it again, or choose another adapter."
    )


def refuse_not_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise `ModelError` naming a tensor that holds NaN or infinity."""
    import numpy as np

    with file.open("rb") as opened:
        for name, tensor in tensors.items():
            if tensor.dtype not in _EXPONENTS:
                continue
            integer, exponent = _EXPONENTS[tensor.dtype]
            opened.seek(tensor.start)
            left = tensor.end - tensor.start
            while left > 0 and (block := opened.read(min(left, BLOCK_BYTES))):
                left -= len(block)
                if not _is_finite(np.frombuffer(block, integer), exponent):
                    raise ModelError(
                        f"{file}: {name} holds NaN or infinity, so the run that saved it has "
                        "diverged; choose an earlier checkpoint."
                    )


def _is_finite(values: NDArray[np.unsignedinteger[Any]], exponent: int) -> bool:
    mask = values.dtype.type(exponent)
    return not bool(((values & mask) == mask).any())


def elements(shape: tuple[int, ...]) -> int:
    """The number of values in a tensor of this shape."""
    return math.prod(shape)

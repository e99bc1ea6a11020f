"""Trees of arrays as one level of names, and arrays on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten


def named_arrays(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree by their dotted names, as in safetensors files."""
    return dict(tree_flatten(tree))


def put_arrays(tree: Any, arrays: Mapping[str, mx.array]) -> None:
    """Replace arrays of a tree of dictionaries and lists, by their dotted names.

    The tree stays the same object, which a compiled function may hold.
    """
    for name, array in arrays.items():
        *path, last = name.split(".")
        at = tree
        for each in path:
            at = at[int(each)] if isinstance(at, list) else at[each]
        at[int(last) if isinstance(at, list) else last] = array


def read_arrays(path: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file, read from disk when first used.

    Raises `OSError`, `RuntimeError` or `ValueError`, as MLX does.
    """
    arrays = mx.load(str(path)) if _is_text(path) else mx.load(path.open("rb"), "safetensors")
    assert isinstance(arrays, dict)
    return arrays


def save_arrays(
    path: Path,
    arrays: dict[str, mx.array],
    framework: str = "mlx",
    more: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file; `more` is kept in its metadata.

    Raises `OSError` or `RuntimeError`, as MLX does.
    """
    metadata = {"format": framework, **(more or {})}
    if _is_text(path):
        mx.save_safetensors(str(path), arrays, metadata)
        return
    with path.open("wb") as file:
        mx.save_safetensors(file, arrays, metadata)


def _is_text(path: Path) -> bool:
    """Whether a path is UTF-8; MLX opens no other by its name."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def number(array: mx.array) -> float:
    """The value of an array of one real element; it is evaluated."""
    value = array.item()
    assert not isinstance(value, complex)
    return float(value)

"""Trees of arrays as one level of names, and arrays on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten


def named_arrays(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree by their dotted names, as in safetensors files."""
    return dict(tree_flatten(tree))


def read_arrays(path: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file, read from disk when first used.

    Raises `OSError`, `RuntimeError` or `ValueError`, as MLX does.
    """
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return arrays


def number(array: mx.array) -> float:
    """The value of an array of one real element; it is evaluated."""
    value = array.item()
    assert not isinstance(value, complex)
    return float(value)

"""Gradients by some of a function's arrays, built in a time that doesn't grow with the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx


def gradients_by(
    function: Callable[..., Any],
    arrays: Sequence[mx.array],
    by: Sequence[int],
    cotangents: Sequence[mx.array],
) -> list[mx.array]:
    """The gradients of `function(*arrays)` by the arrays at these indices.

    All are given to MLX: in search of what is differentiated it goes through whatever led to an
    array that the function reads otherwise, which may be the whole step.
    """
    others = [at for at in range(len(arrays)) if at not in set(by)]

    def stopped(*values: mx.array) -> Any:
        placed = dict(zip(by, values, strict=False))
        fixed = map(mx.stop_gradient, values[len(by) :])
        placed.update(zip(others, fixed, strict=True))
        return function(*(placed[at] for at in range(len(arrays))))

    primals = [arrays[at] for at in (*by, *others)]
    return mx.vjp(stopped, primals, list(cotangents))[1][: len(by)]

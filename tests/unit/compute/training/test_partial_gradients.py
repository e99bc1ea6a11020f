"""Gradients by some of a function's arrays."""

from __future__ import annotations

import mlx.core as mx

from mlxft.compute.training.partial_gradients import gradients_by


def test_they_are_by_these_arrays_alone() -> None:
    x, indices, y = mx.array([1.0, 2.0]), mx.array([1, 0]), mx.array([3.0, 5.0])

    def function(x: mx.array, indices: mx.array, y: mx.array) -> mx.array:
        return x[indices] * y * y

    by_y, by_x = gradients_by(function, [x, indices, y], [2, 0], [mx.ones(2)])
    assert by_x.tolist() == [25, 9]
    assert by_y.tolist() == [12, 10]

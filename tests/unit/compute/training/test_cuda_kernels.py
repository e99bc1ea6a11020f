"""CUDA's kernels of our own, against the same without them; on a GPU only."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxft.compute.training import cuda_kernels, recurrences


def test_nothing_but_cuda_has_them() -> None:
    is_cuda = mx.default_device() == mx.Device(mx.gpu) and not mx.metal.is_available()
    assert cuda_kernels.serve() == is_cuda


@pytest.mark.skipif(not cuda_kernels.serve(), reason="needs an NVIDIA GPU")
class TestOnAGpu:
    @pytest.mark.parametrize("backward", [False, True])
    @pytest.mark.parametrize(("channels", "values", "columns"), [(128, 128, 128), (64, 32, 1)])
    def test_states_are_passed_on_as_one_by_one(
        self,
        monkeypatch: pytest.MonkeyPatch,
        channels: int,
        values: int,
        columns: int,
        backward: bool,
    ) -> None:
        outer = (2, 3, 2)
        factors = 0.05 * mx.random.normal((*outer, 5, channels, columns))
        added = mx.random.normal((*outer, 5, channels, values))
        state = mx.random.normal((*outer, channels, values))
        ours = recurrences.passed_through(factors, added, state, backward=backward)
        monkeypatch.setattr(cuda_kernels, "passes", lambda *_: False)
        with mx.stream(mx.cpu):
            expected = recurrences.passed_through(factors, added, state, backward=backward)
            mx.eval(expected)
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_allclose(np.array(one), np.array(other), rtol=1e-4, atol=1e-4)

    def test_inverses_have_float32s_digits(self) -> None:
        matrix = 0.3 * mx.random.normal((2, 3, 64, 64))
        exact = np.linalg.inv(np.eye(64) + np.tril(np.array(matrix, np.float64), -1))
        found = np.array(recurrences.inverse_of_unit_lower(matrix))
        assert np.linalg.norm(found - exact) < 1e-5 * np.linalg.norm(exact)

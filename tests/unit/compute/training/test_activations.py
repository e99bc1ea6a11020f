"""Activation functions of training, against MLX's and mlx_lm's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models import (
    activations,
    gemma3n,
    gemma4_text,
    iquestloopcoder,
    llama,
    qwen3_next,
    step3p5,
)
from numpy.typing import NDArray

from mlxft.compute import backend as process
from mlxft.compute.training import operations
from mlxft.compute.training.attention import Backend
from support.evaluation import one_by_one

BACKENDS: tuple[Backend, ...] = ("cpu", "cuda")

FUNCTIONS: dict[str, Callable[[mx.array, mx.array], mx.array]] = {
    "silu": lambda gate, up: nn.silu(gate) * up,
    "gelu_approx": lambda gate, up: nn.gelu_approx(gate) * up,
    "swiglu": lambda gate, up: llama.swiglu(gate, up),
}
"""As models call them, which look them up at each call."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_and_their_gradients_equal_mlxs(name: str, backend: Backend) -> None:
    gate, up = mx.linspace(-90, 90, 4001), mx.linspace(-2, 3, 4001)[::-1]
    weights = mx.random.normal(gate.shape)

    def both() -> list[NDArray[np.float32]]:
        function = FUNCTIONS[name]
        value, gradients = mx.value_and_grad(
            lambda gate, up: (function(gate, up) * weights).sum(), (0, 1)
        )(gate, up)
        return [np.array(each) for each in (value, function(gate, up), *gradients)]

    expected = both()
    with operations.replaced(backend):
        ours = both()
    assert all(np.allclose(a, b, 1e-5, 1e-5) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize(("backend", "kept"), [("cpu", 4), ("cuda", 2)])
def test_a_gpu_keeps_only_the_inputs_of_swiglu(backend: Backend, kept: int) -> None:
    x = mx.zeros(2**20)
    mx.eval(x)

    def loss(x: mx.array, layers: int) -> mx.array:
        for _ in range(layers):
            x = llama.swiglu(1.1 * x, 0.9 * x)
        return x.sum()

    def peak(layers: int) -> int:
        return process.peak_of(one_by_one(lambda: mx.eval(mx.grad(loss)(x, layers))))

    with operations.replaced(backend):
        # MLX may hold an array or two more at once, depending on how fast it frees others.
        assert (peak(40) - peak(20)) / (20 * x.nbytes) == pytest.approx(kept, abs=0.3)


def test_gradients_have_the_types_and_shapes_of_their_inputs() -> None:
    gate, up = mx.array([[0.3], [-1.0]], mx.float16), mx.ones((2, 4))

    def gradients() -> list[mx.array]:
        return mx.grad(lambda *inputs: llama.swiglu(*inputs).sum(), (0, 1))(gate, up)

    theirs = gradients()
    with operations.replaced("cuda"):
        ours = gradients()
    for own, expected in zip(ours, theirs, strict=True):
        assert (own.dtype, own.shape) == (expected.dtype, expected.shape)
        assert mx.allclose(own, expected, 1e-2, 1e-3).item()


COMPILED: dict[str, Callable[[mx.array, mx.array], mx.array]] = {
    "precise_swiglu": lambda gate, up: qwen3_next.precise_swiglu(up, gate, up),
    "geglu": lambda gate, up: gemma4_text.geglu(gate, up),
    "gelu_topk": lambda gate, up: gemma3n.gelu_topk(gate, mx.array(0.5)) * up,
    "_silu_mul": lambda gate, up: iquestloopcoder._silu_mul(gate, up),
    "clamped_swiglu": lambda gate, up: step3p5.clamped_swiglu(up, gate, mx.array(0.4)),
}
"""Functions that models have compiled for all shapes, with an activation inside."""


@pytest.fixture
def compiling() -> Iterator[None]:
    """Lets MLX join operations, as on a GPU."""
    mx.enable_compile()
    yield
    mx.disable_compile()


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("name", COMPILED)
def test_functions_that_models_have_compiled_are_computed_as_they_are_written(name: str) -> None:
    """MLX can't compile a function with its own gradient for all shapes at once."""
    function = COMPILED[name]
    gate, up = mx.linspace(-3, 3, 8)[None], mx.linspace(2, -1, 8)[None]
    with operations.replaced("cuda"):
        ours = function(gate, up)
        assert function(gate, up).shape == gate.shape
    mx.disable_compile()
    assert mx.allclose(ours, function(gate, up), 1e-5, 1e-5).item()


OWN_FILE = """
from functools import partial
import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.activations import swiglu

@partial(mx.compile, shapeless=True)
def gated(gate, up, *, scale=1.0):
    return nn.silu(gate) * up * scale

class Block(nn.Module):
    def __call__(self, gate, up):
        return swiglu(gated(gate, up), up)
"""


@pytest.mark.usefixtures("compiling")
def test_those_in_a_models_own_file_are_replaced_too(tmp_path: Path) -> None:
    """mlx_lm loads it as a module that Python doesn't know by name."""
    file = tmp_path / "model.py"
    file.write_text(OWN_FILE)
    spec = spec_from_file_location("custom_model", file)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs, gate, up = module.swiglu, mx.linspace(-3, 3, 8)[None], mx.linspace(2, -1, 8)[None]
    block = module.Block()
    with operations.replaced("cuda"):
        assert module.swiglu is not theirs
        ours = block(gate, up)
        mx.eval(ours)
    assert module.swiglu is theirs
    mx.disable_compile()
    assert mx.allclose(ours, block(gate, up), 1e-5, 1e-5).item()


def test_mlx_lms_own_is_restored_afterwards() -> None:
    theirs = activations.swiglu, llama.swiglu, nn.silu
    with operations.replaced("cuda"):
        assert not {activations.swiglu, llama.swiglu, nn.silu} & {*theirs}
    assert theirs == (activations.swiglu, llama.swiglu, nn.silu)

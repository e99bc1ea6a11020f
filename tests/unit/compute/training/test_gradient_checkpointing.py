"""Checkpointed blocks give the gradients of ordinary ones."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm.utils import _get_classes

from mlxft.compute import backend as process
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.dropout import KeyedDropout, StepKeys
from mlxft.compute.training.gradient_checkpointing import checkpointed
from mlxft.compute.training.loss import chunked_loss
from mlxft.compute.training.step import Stepper
from mlxft.recipe import Recipe, apply_settings
from support.architectures import ARCHITECTURES, VOCABULARY
from support.evaluation import one_by_one


def gradients(grad_checkpoint: bool, *settings: str) -> dict[str, mx.array]:
    """The summed gradient of two steps of a tiny llama, dropout included."""
    config = ARCHITECTURES["llama"]
    recipe = apply_settings(Recipe(), ["num_layers=2", "rank=4", *settings])
    model_class, arguments = _get_classes(config)
    mx.random.seed(3)
    model = model_class(arguments.from_dict(config))
    adapters.attach(LoadedModel(model, {}, "", "", 0), recipe)
    optimizer = optim.Adam(1e-3)
    optimizer.init(model.trainable_parameters())
    stepper = Stepper(model, optimizer, seed=0, grad_checkpoint=grad_checkpoint, loss=chunked_loss)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (2, 17), np.int32)
    batch = batch_arrays(tokens, np.ones(tokens.shape, np.bool_))
    for step in (1, 2):
        stepper.add_gradient(step, batch)
        if step == 1:
            # From the second step on no trained array is zero.
            stepper.update(1e-2)
    return stepper.accumulated.total


class TestGradients:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    @pytest.mark.parametrize("dropout", [0.0, 0.4])
    def test_equal_those_without_checkpointing(self, kind: str, dropout: float) -> None:
        settings = (f"fine_tune_type={kind}", f"lora_parameters.dropout={dropout}")
        kept, again = gradients(False, *settings), gradients(True, *settings)
        assert kept.keys() == again.keys()
        for name, array in kept.items():
            assert mx.abs(array).max().item() > 0
            assert mx.allclose(array, again[name], rtol=1e-5, atol=1e-7).item(), name


class _Pair(nn.Module):
    """A block with two outputs, as in some model families."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = mx.array([2.0, 3.0])
        self.frozen = mx.array([5.0, 7.0])
        self.freeze(keys="frozen")

    def __call__(self, x: mx.array, mask: Any = None, *, kind: str) -> tuple[mx.array, Any]:
        assert kind == "any"
        return x * x * self.weight * self.frozen * mask, {"sum": x.sum(), "kind": kind}


class TestBlock:
    def test_takes_and_returns_more_than_arrays(self) -> None:
        block, x, mask = _Pair(), mx.array([1.0, 2.0]), mx.array([True, False])

        def loss(weights: Any, x: mx.array) -> mx.array:
            block.update(weights)
            values, more = block(x, mask=mask, kind="any")
            assert more["kind"] == "any"
            return values.sum() + more["sum"]

        def found() -> tuple[list[float], list[float]]:
            gradient = mx.grad(loss, argnums=(0, 1))(block.trainable_parameters(), x)
            return gradient[0]["weight"].tolist(), gradient[1].tolist()

        plain = found()
        with checkpointed([block]):
            assert found() == plain == ([5.0, 0.0], [21.0, 1.0])

    def test_keeps_its_own_weights(self) -> None:
        block = _Pair()
        before = named_arrays(block.parameters())
        with checkpointed([block]):
            block(mx.array([1.0, 2.0]), mask=mx.array(1.0), kind="any")
        assert all(
            before[name] is array for name, array in named_arrays(block.parameters()).items()
        )


class _Wide(nn.Module):
    """A block whose trained weight has a gradient that needs a wide array."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = mx.random.normal((16, 1024)), mx.random.normal((1024, 16))
        self.freeze()
        self.scale = mx.ones(1024)

    def __call__(self, x: mx.array) -> mx.array:
        return x + (mx.tanh(x @ self.inside) * self.scale) @ self.outside


def test_a_block_is_done_with_before_the_one_before_it_is_recomputed() -> None:
    x = mx.random.normal((2048, 16))

    def peak(blocks: int) -> int:
        layers = [_Wide() for _ in range(blocks)]
        mx.eval(x, [layer.parameters() for layer in layers])

        def loss(weights: list[Any]) -> mx.array:
            y = x
            for layer, own in zip(layers, weights, strict=True):
                layer.update(own)
                y = layer(y)
            return y.sum()

        def compute() -> None:
            with checkpointed(layers):
                weights = [layer.trainable_parameters() for layer in layers]
                gradient = mx.grad(loss)(weights)
            mx.eval(gradient)

        return process.peak_of(one_by_one(compute))

    assert peak(6) - peak(2) < 4 * 2048 * 1024 * 4


class TestDropout:
    def layers(self) -> tuple[StepKeys, list[KeyedDropout]]:
        model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
        holder = nn.Module()
        holder.first, holder.second = model.layers
        keys = StepKeys(holder)
        return keys, [holder.first, holder.second]

    def test_depends_on_the_steps_key_and_the_layer(self) -> None:
        keys, (first, second) = self.layers()
        ones = mx.ones(64)
        keys.begin(mx.random.key(1))
        dropped = first(ones).tolist()
        assert set(dropped) == {0.0, 2.0}
        assert first(ones).tolist() == dropped
        assert second(ones).tolist() != dropped
        keys.begin(mx.random.key(2))
        assert first(ones).tolist() != dropped
        keys.begin(mx.random.key(1))
        assert first(ones).tolist() == dropped

    def test_is_off_outside_training(self) -> None:
        _, (first, _) = self.layers()
        first.eval()
        assert first(mx.ones(8)).tolist() == [1.0] * 8

    def test_can_be_moved_to_another_stepper(self) -> None:
        keys, (first, _) = self.layers()
        holder = nn.Module()
        holder.first = first
        again = StepKeys(holder)
        keys.begin(mx.random.key(1))
        again.begin(mx.random.key(2))
        assert isinstance(holder.first, KeyedDropout)
        assert holder.first(mx.ones(64)).tolist() != first(mx.ones(64)).tolist()

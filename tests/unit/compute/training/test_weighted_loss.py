"""Tokens that count more or less than others in the loss."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm.utils import _get_classes

from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import numpy_loss
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import Loss, chunked_loss, plain_loss
from mlxft.compute.training.step import Stepper
from mlxft.recipe import Recipe, apply_settings
from support.architectures import ARCHITECTURES, VOCABULARY

CHANCE = np.random.default_rng(0)
TOKENS = CHANCE.integers(0, VOCABULARY, (4, 17), np.int32)
WEIGHTS = CHANCE.choice(np.array([0, 0.25, 1, 3], np.float32), TOKENS.shape)


@pytest.fixture
def model() -> Any:
    config = ARCHITECTURES["llama"]
    model_class, arguments = _get_classes(config)
    mx.random.seed(3)
    made = model_class(arguments.from_dict(config))
    recipe = apply_settings(Recipe(), ["num_layers=2", "rank=4"])
    adapters.attach(LoadedModel(made, {}, "", "", 0), recipe)
    return made


def token_losses(model: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(rows, width - 1): the loss of each token but the first."""
    logits = model(mx.array(TOKENS[:, :-1])).astype(mx.float32)
    losses = mx.logsumexp(logits, -1) - mx.take_along_axis(
        logits, mx.array(TOKENS[:, 1:, None]), -1
    ).squeeze(-1)
    return np.array(losses)


class TestLoss:
    @pytest.mark.parametrize("loss", [plain_loss, chunked_loss])
    def test_it_is_the_weighted_mean(self, model: Any, loss: Loss) -> None:
        each, weights = token_losses(model), WEIGHTS[:, 1:]
        expected = (each * weights).sum() / weights.sum()
        found, count = loss(model, batch_arrays(TOKENS, WEIGHTS))
        assert number(found) == pytest.approx(expected, rel=1e-5)
        assert number(count) == (weights > 0).sum()

    def test_the_gradients_are_those_of_the_weighted_mean(self, model: Any) -> None:
        batch, weights = batch_arrays(TOKENS, WEIGHTS), model.trainable_parameters()

        def place(weights: Any) -> Any:
            model.update(weights)
            return model

        (_, plain), (_, chunked), (_, with_numpy) = (
            mx.value_and_grad(lambda weights: plain_loss(place(weights), batch)[0])(weights),
            mx.value_and_grad(lambda weights: chunked_loss(place(weights), batch)[0])(weights),
            numpy_loss.loss_and_gradient(place, weights, batch),
        )
        expected = named_arrays(plain)
        assert max(number(mx.abs(each).max()) for each in expected.values()) > 0
        for found in (named_arrays(chunked), named_arrays(with_numpy)):
            for name, each in expected.items():
                assert mx.allclose(each, found[name], rtol=1e-4, atol=1e-5).item(), name

    @pytest.mark.parametrize("count", [2, 5], ids=["rows shared out", "more streams than rows"])
    def test_rows_on_streams_of_their_own_give_the_same(self, model: Any, count: int) -> None:
        batch, weights = batch_arrays(TOKENS, WEIGHTS), model.trainable_parameters()

        def place(weights: Any) -> Any:
            model.update(weights)
            return model

        streams = [mx.new_stream(mx.cpu) for _ in range(count)]
        (loss, _), gradient = numpy_loss.loss_and_gradient(place, weights, batch)
        (shared, _), dealt = numpy_loss.loss_and_gradient(place, weights, batch, streams=streams)
        assert number(shared) == pytest.approx(number(loss), rel=1e-6)
        found = named_arrays(dealt)
        for name, each in named_arrays(gradient).items():
            assert mx.allclose(each, found[name], rtol=1e-4, atol=1e-6).item(), name


class TestAccumulation:
    def test_by_tokens_it_equals_a_larger_batch(self, model: Any) -> None:
        optimizer = optim.SGD(1.0)
        optimizer.init(model.trainable_parameters())

        def accumulated(rows_at_once: int) -> dict[str, mx.array]:
            stepper = Stepper(
                model, optimizer, seed=0, grad_checkpoint=False, loss=chunked_loss, by_tokens=True
            )
            for at in range(0, len(TOKENS), rows_at_once):
                rows = slice(at, at + rows_at_once)
                stepper.add_gradient(1, batch_arrays(TOKENS[rows], WEIGHTS[rows]))
            total, weight = stepper.accumulated.total, stepper.accumulated.weight
            return {name: array / weight for name, array in total.items()}

        together, apart = accumulated(4), accumulated(1)
        for name, each in together.items():
            assert mx.allclose(each, apart[name], rtol=1e-4, atol=1e-5).item(), name

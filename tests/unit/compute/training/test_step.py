"""One training step's gradients, whichever way they are put together."""

from __future__ import annotations

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm.utils import _get_classes

from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import step
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import chunked_loss
from mlxft.compute.training.step import Stepper
from mlxft.recipe import Recipe, apply_settings
from support.architectures import ARCHITECTURES, VOCABULARY


def _stepper() -> Stepper:
    """A tiny bfloat16 llama's, whose LoRA layers are kept in float32."""
    config = ARCHITECTURES["llama"]
    model_class, arguments = _get_classes(config)
    mx.random.seed(3)
    model = model_class(arguments.from_dict(config))
    model.set_dtype(mx.bfloat16)
    recipe = apply_settings(Recipe(), ["num_layers=2", "rank=4"])
    adapters.attach(LoadedModel(model, {}, "", "bfloat16", 0), recipe)
    optimizer = optim.Adam(1e-3)
    optimizer.init(model.trainable_parameters())
    return Stepper(
        model,
        optimizer,
        seed=0,
        grad_checkpoint=True,
        loss=chunked_loss,
        dtype=mx.bfloat16,
    )


def test_gradients_cast_together_are_those_cast_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (2, 17), np.int32)
    batch = batch_arrays(tokens, np.ones(tokens.shape, np.bool_))
    found = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(step, "LITTLE", share)
        stepper = _stepper()
        norm = stepper.add_gradient(1, batch).gradient_norm
        stepper.add_gradient(2, batch)
        found.append((norm, stepper.accumulated.total))
    (norm, one_by_one), (joined_norm, together) = found
    assert joined_norm == pytest.approx(norm, rel=1e-6)
    assert {array.dtype for array in together.values()} == {mx.float32}
    assert one_by_one.keys() == together.keys()
    for name, array in one_by_one.items():
        assert mx.array_equal(array, together[name]), name

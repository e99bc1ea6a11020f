"""A process that measures one thing after another."""

from __future__ import annotations

import io
from typing import Any

import mlx.core as mx
import msgspec
import pytest

from mlxft.compute.arrays import named_arrays
from mlxft.compute.measuring import measure, steps
from mlxft.compute.measuring.random_weights import random_model
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.loss import plain_loss
from mlxft.doctor.self_test.plan import llama
from mlxft.recipe import Recipe
from mlxft.self_test.figures import Measured, StepPoint


def test_it_ends_once_something_is_left_that_the_next_peak_would_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = []

    def keep(megabytes: int) -> int:
        kept.append(mx.zeros((megabytes, 1_000_000), mx.uint8))
        mx.eval(kept)
        return megabytes

    monkeypatch.setattr(measure, "_left", lambda: sum(each.nbytes for each in kept))
    monkeypatch.setitem(measure._MEASUREMENTS, "keep", (int, keep))
    lines = [b'{"name": "keep", "request": %d}\n' % each for each in (0, 3, 0)]
    answers = io.BytesIO()
    measure.answer(io.BytesIO(b"".join(lines)), answers)
    found = [msgspec.json.decode(each, type=Measured) for each in answers.getvalue().splitlines()]
    assert [(bytes(each.found), each.is_last) for each in found] == [(b"0", False), (b"3", True)]


def test_a_step_leaves_nothing() -> None:
    config = llama(64, 128, layers=2, heads=(4, 2), vocabulary=96)
    point = StepPoint(
        name="tiny", config=config, tokens=16, batch_size=2, grad_checkpoint=False, is_compared=True
    )
    steps.measure(point)  # What is made once, stays.
    before = measure._left()
    steps.measure(point)
    assert measure._left() <= before + 1000


def test_a_quantized_models_gradient_is_compared_by_what_it_trains() -> None:
    config = llama(64, 128, layers=2, heads=(4, 2), vocabulary=96)
    model = random_model({**config, "quantization": {"group_size": 32, "bits": 4}}, "float32")
    adapters.attach(LoadedModel(model, config, "4-bit", "float32", 0), Recipe(num_layers=2))
    steps._fill_updates(model)
    batch = steps._batch((2, 17), 96)

    def loss(weights: Any) -> mx.array:
        model.update(weights)
        return plain_loss(model, batch)[0]

    found, gradient = mx.value_and_grad(loss)(model.trainable_parameters())
    plain, difference = steps._compared(model, batch, named_arrays(gradient))
    assert plain == pytest.approx(found.item(), rel=1e-5)
    assert difference < 1e-3

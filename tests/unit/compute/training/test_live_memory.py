"""Nothing of a step stays alive after it: Metal holds at most 499,000 buffers of a process."""

from __future__ import annotations

import gc

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm.utils import _get_classes

from mlxft.compute import backend
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import chunked_loss
from mlxft.compute.training.step import Stepper
from mlxft.data.batch_plan import padded_width
from mlxft.recipe import Recipe, apply_settings
from support.architectures import ARCHITECTURES, VOCABULARY


@pytest.mark.parametrize("settings", [(), ("grad_checkpoint=true", "fine_tune_type=full")])
def test_steps_of_many_lengths_leave_the_same_memory_behind(settings: tuple[str, ...]) -> None:
    """With what MLX keeps for reuse freed, as after each step of a run."""
    recipe = apply_settings(Recipe(), ["num_layers=2", "lora_parameters.rank=4", *settings])
    model_class, arguments = _get_classes(ARCHITECTURES["llama"])
    model = model_class(arguments.from_dict(ARCHITECTURES["llama"]))
    adapters.attach(LoadedModel(model, {}, "", "", 0), recipe)
    optimizer = optim.Adam(1e-3)
    optimizer.init(model.trainable_parameters())
    stepper = Stepper(
        model, optimizer, seed=0, grad_checkpoint=recipe.grad_checkpoint, loss=chunked_loss
    )
    widths = sorted({padded_width(length, 400) for length in range(2, 400)})[::2]
    left = []
    for step, width in enumerate(widths, start=1):
        tokens = np.random.default_rng(width).integers(0, VOCABULARY, (2, width), np.int32)
        stepper.add_gradient(step, batch_arrays(tokens, np.ones(tokens.shape, np.bool_)))
        stepper.update(1e-3)
        mx.clear_cache()
        if step in (2, len(widths)):
            gc.collect()
            left.append(backend.memory())
    second, last = left
    assert len(widths) > 15
    assert last.active <= second.active
    assert last.cache == 0

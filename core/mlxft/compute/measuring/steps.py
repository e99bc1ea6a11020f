"""A training step of a random model: its peak, its speed, and whether its gradient is right."""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from mlxft import recipe as recipes
from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.measuring import random_models
from mlxft.compute.measuring.device import device, on_cpu
from mlxft.compute.models import loading
from mlxft.compute.training.batches import BatchArrays, batch_arrays
from mlxft.compute.training.limits import clear_cache, training_limits
from mlxft.compute.training.loss import plain_loss
from mlxft.recipe import Recipe
from mlxft.self_test.figures import StepFigures, StepPoint

STEPS: Final = 3
"""The first one also compiles kernels; the peak is that of all."""

COMPARED: Final = (2, 17)
"""Rows and tokens that are computed the plain way too: few, since a CPU may be slow, and as many as
the start checks', so that CUDA compiles no more kernels."""


def measure(point: StepPoint) -> StepFigures:
    """Train a few steps as a run does; whatever else is in memory would be counted too."""
    recipe = recipes.apply_settings(Recipe(), point.settings)
    loaded = random_models.attached(point.config, recipe)
    model, longest = loaded.model, point.tokens + 1
    _fill_updates(model)
    started = random_models.started(loaded, recipe, longest)
    stepper = started.stepper
    batch = _batch((point.batch_size, longest), int(point.config["vocab_size"]))
    mx.eval(model.parameters(), started.optimizer.state, batch)
    mx.clear_cache()
    mx.reset_peak_memory()
    losses, seconds = [], []
    with training_limits(started.run_ahead_limit):
        for step in range(1, STEPS + 1):
            begun = time.perf_counter()
            losses.append(stepper.add_gradient(step, batch).loss)
            stepper.update(recipe.learning_rate)
            clear_cache(recipe.clear_cache_threshold)
            seconds.append(time.perf_counter() - begun)
    peak = mx.get_peak_memory()
    loss, plain, difference = losses[0], None, None
    if point.is_compared:
        few = _batch(COMPARED, int(point.config["vocab_size"]))
        loss = stepper.add_gradient(STEPS + 1, few).loss
        plain, difference = _compared(model, few, dict(stepper.accumulated.total))
    return StepFigures(
        device=device(),
        peak=peak,
        seconds=statistics.median(seconds[1:]),
        loss=loss,
        plain_loss=plain,
        gradient_difference=difference,
        dtype=loaded.dtype,
        warnings=started.warnings,
    )


def _fill_updates(model: Any) -> None:
    """A LoRA update is zero at its start, and half of its gradients too."""
    arrays = named_arrays(model.trainable_parameters())
    zeros = {name: each for name, each in arrays.items() if name.endswith("lora_b")}
    filled = [
        (name, 0.02 * mx.random.normal(each.shape, each.dtype)) for name, each in zeros.items()
    ]
    model.load_weights(filled, strict=False)


def _batch(shape: tuple[int, int], vocabulary: int) -> BatchArrays:
    tokens = np.random.default_rng(0).integers(0, vocabulary, shape, np.int32)
    return batch_arrays(tokens, np.ones(shape, np.bool_))


def _compared(model: Any, batch: BatchArrays, gradient: dict[str, mx.array]) -> tuple[float, float]:
    """The plain float32 loss on the CPU, and the relative distance of the gradient from its own.

    Nothing of the trainer's own operations takes part: MLX's attention, all logits at once.
    """
    # Dequantized layers would be trained too.
    trained = model.trainable_parameters()
    with on_cpu():
        loading.dequantize(model)
        model.set_dtype(mx.float32)

        def loss(weights: Any) -> mx.array:
            model.update(weights)
            return plain_loss(model, batch)[0]

        weights = tree_map(lambda array: array.astype(mx.float32), trained)
        found, plain = mx.value_and_grad(loss)(weights)
        arrays = named_arrays(plain)
        mx.eval(found, arrays)
        off = [gradient[name].astype(mx.float32) - each for name, each in arrays.items()]
        distance, length = _length(off), _length(list(arrays.values()))
        return number(found), distance / max(length, 1e-12)


def _length(arrays: list[mx.array]) -> float:
    return number(mx.sqrt(mx.stack([each.square().sum() for each in arrays]).sum()))

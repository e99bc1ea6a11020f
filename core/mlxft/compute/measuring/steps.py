"""A training step of a random model: its peak, its speed, and whether its gradient is right."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.nn.layers.quantized import quantize
from mlx_lm.utils import _get_classes

from mlxft import recipe as recipes
from mlxft.compute import backend
from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.measuring.device import device, on_cpu
from mlxft.compute.models import adapters, loading
from mlxft.compute.training import optimizers
from mlxft.compute.training.batches import BatchArrays, batch_arrays
from mlxft.compute.training.expected_memory import run_ahead_limit
from mlxft.compute.training.loss import chunked_loss, plain_loss
from mlxft.compute.training.step import Stepper
from mlxft.recipe import Recipe
from mlxft.self_test.figures import StepFigures, StepPoint

STEPS: Final = 3
"""The first one also compiles kernels; the peak is that of all."""

GROUP: Final = 64

COMPARED: Final = (1, 46)
"""Rows and tokens that are computed the plain way too: a CPU may be slow."""


def measure(point: StepPoint) -> StepFigures:
    """Train a few steps; needs a process of its own, since memory kept alive would be counted."""
    model, recipe = _model(point), recipes.apply_settings(Recipe(), point.settings)
    config = model.config
    loaded = loading.LoadedModel(model.module, config, "", model.dtype, 0)
    adapters.attach(loaded, recipe)
    _fill_updates(model.module)
    optimizer = optimizers.make_optimizer(recipe)
    optimizer.init(model.module.trainable_parameters())
    stepper = Stepper(
        model.module,
        optimizer,
        seed=recipe.seed,
        grad_checkpoint=recipe.grad_checkpoint,
        loss=chunked_loss,
        dtype=adapters.compute_dtype(loaded, recipe),
        max_grad_norm=recipe.max_grad_norm,
    )
    batch = _batch((point.batch_size, point.tokens + 1), int(config["vocab_size"]))
    mx.eval(model.module.parameters(), optimizer.state, batch)
    mx.clear_cache()
    mx.reset_peak_memory()
    losses, seconds = [], []
    with backend.bounded_memory(run_ahead_limit(recipe, config, point.tokens + 1)):
        for step in range(1, STEPS + 1):
            started = time.perf_counter()
            losses.append(stepper.add_gradient(step, batch).loss)
            stepper.update(recipe.learning_rate)
            mx.clear_cache()
            seconds.append(time.perf_counter() - started)
    peak = mx.get_peak_memory()
    loss, plain, difference = losses[0], None, None
    if point.is_compared:
        few = _batch(COMPARED, int(config["vocab_size"]))
        loss = stepper.add_gradient(STEPS + 1, few).loss
        plain, difference = _compared(model.module, few, dict(stepper.accumulated.total))
    return StepFigures(
        device=device(),
        peak=peak,
        seconds=statistics.median(seconds[1:]),
        loss=loss,
        plain_loss=plain,
        gradient_difference=difference,
        dtype=model.dtype,
    )


@dataclass(frozen=True)
class _Random:
    """A model of random weights, in the type that runs compute in on this device."""

    module: Any
    config: dict[str, Any]
    dtype: str


def _model(point: StepPoint) -> _Random:
    """As `loading.load` would give it: dequantized to float32 on a CPU."""
    on_cpu = backend.kind() == "cpu"
    dtype = "float32" if on_cpu else "bfloat16"
    model_class, arguments = _get_classes(point.config)
    mx.random.seed(0)
    module = model_class(arguments.from_dict(point.config))
    module.set_dtype(getattr(mx, dtype))
    if point.bits is not None:
        quantize(module, GROUP, point.bits)
        if on_cpu:
            loading.dequantize(module)
            module.set_dtype(mx.float32)
    mx.eval(module.parameters())
    return _Random(module, point.config, dtype)


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
    with on_cpu():
        loading.dequantize(model)
        model.set_dtype(mx.float32)

        def loss(weights: Any) -> mx.array:
            model.update(weights)
            return plain_loss(model, batch)[0]

        found, plain = mx.value_and_grad(loss)(model.trainable_parameters())
        arrays = named_arrays(plain)
        mx.eval(found, arrays)
        off = [gradient[name].astype(mx.float32) - each for name, each in arrays.items()]
        distance, length = _length(off), _length(list(arrays.values()))
        return number(found), distance / max(length, 1e-12)


def _length(arrays: list[mx.array]) -> float:
    return number(mx.sqrt(mx.stack([each.square().sum() for each in arrays]).sum()))

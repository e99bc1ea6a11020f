"""The loss of a batch: the mean cross entropy over its trained tokens.

Logits are the largest arrays of a step, a vocabulary of values per token, so they are computed in
chunks; `verified` compares that with the plain loss on the model at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

import mlx.core as mx
import numpy as np

from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.training import numpy_loss
from mlxft.compute.training.batches import BatchArrays, batch_arrays
from mlxft.compute.training.chunked import chunked_loss
from mlxft.compute.training.model_parts import cache_argument, vocabulary

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)

_TOLERANCE: Final = {
    mx.float32: 1e-3 if _ON_CPU else 1e-2,
    mx.float16: 2e-2,
    mx.bfloat16: 5e-2 if _ON_CPU else 1e-1,
}
"""How far rounding may move the chunked loss, by the model's least precise type.

A BLAS sums a different number of rows in a different order, and a GPU multiplies float32 with fewer
digits. A missing soft-cap or scale makes a difference of 0.1 and more.
"""


class Loss(Protocol):
    """A batch's mean loss in nats, and the number of tokens that it is the mean of."""

    def __call__(self, model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]: ...


def plain_loss(model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]:
    """The mean loss from the logits of every position, as the model computes them."""
    logits = model(batch.tokens[:, :-1], **cache_argument(model, batch))
    trained = logits.reshape(-1, logits.shape[-1])[batch.positions]
    losses = mx.fast.cross_entropy(trained, batch.targets)
    return (losses * batch.weights).sum() / batch.target_count, batch.target_count


def with_gradient(
    loss: Loss, place: Callable[[Any], Any], weights: Any, batch: BatchArrays
) -> tuple[tuple[mx.array, mx.array], Any]:
    """The mean loss and its number of tokens, and the gradient by these weights.

    `place` puts weights into the model and returns it.
    """
    if loss is chunked_loss and _ON_CPU:
        return numpy_loss.loss_and_gradient(place, weights, batch)
    return mx.value_and_grad(lambda weights: loss(place(weights), batch))(weights)


def verified(model: Any) -> tuple[Loss, str | None]:
    """The loss to train this model with; if it is the plain one, also why.

    Both losses and their gradients are computed on a small batch of random tokens.
    """
    was_training = model.training
    model.train()
    try:
        batch = _probe(vocabulary(model))
        plain, chunked = (_measured(each, model, batch) for each in (plain_loss, chunked_loss))
    except Exception as error:  # A model's own code may refuse to be split.
        return plain_loss, f"it can't be split into body and head ({type(error).__name__}: {error})"
    finally:
        model.train(was_training)
    difference = max(_difference(a, b) for a, b in zip(plain, chunked, strict=True))
    if difference <= _TOLERANCE[_least_precise(model)]:
        return chunked_loss, None
    return plain_loss, f"the chunked loss differs from the plain one by {difference:.1g}"


def _probe(vocabulary: int) -> BatchArrays:
    """Two rows of random tokens; the first half of the second row is not trained."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, (2, 17), np.int32)
    trained = np.ones(tokens.shape, np.bool_)
    trained[1, :8] = False
    return batch_arrays(tokens, trained)


def _measured(loss: Loss, model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]:
    """The loss, and the gradients of all trained arrays concatenated.

    Compared one by one, an array whose small gradient is the sum of large ones would fail by
    rounding alone.
    """

    def place(weights: Any) -> Any:
        model.update(weights)
        return model

    # A LoRA or DoRA update is zero at its start, and half of its gradients too; the others still
    # cover the whole backward pass through the body.
    mx.random.seed(0)  # Both get the same dropout.
    weights = model.trainable_parameters()
    (value, _), gradient = with_gradient(loss, place, weights, batch)
    arrays = [each.reshape(-1).astype(mx.float32) for each in named_arrays(gradient).values()]
    whole = mx.concatenate(arrays)
    mx.eval(value, whole)
    model.update(weights)
    return value, whole


def _difference(expected: mx.array, found: mx.array) -> float:
    """The distance of two arrays, relative to the length of the first."""
    expected, found = expected.astype(mx.float32), found.astype(mx.float32)
    length, distance = number(mx.linalg.norm(expected)), number(mx.linalg.norm(expected - found))
    return distance / max(length, 1e-6) if math.isfinite(distance) else math.inf


def _least_precise(model: Any) -> mx.Dtype:
    dtypes = {array.dtype for array in named_arrays(model.parameters()).values()}
    return next((each for each in (mx.bfloat16, mx.float16) if each in dtypes), mx.float32)

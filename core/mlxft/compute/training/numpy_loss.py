"""The chunked loss and its gradient on a CPU, with NumPy's softmax.

Beside matrix products, most of a step there is exp, which MLX computes one value at a time, for
the loss and again for the gradient; NumPy's is nine times faster. But NumPy needs values, and MLX
frees nothing that is evaluated while a function is traced. So the body is traced with a gradient
that is filled in afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft.compute.arrays import number
from mlxft.compute.training.batches import BatchArrays, TrainedTokens
from mlxft.compute.training.chunked import chunk_rows, chunks
from mlxft.compute.training.model_parts import (
    Head,
    head_of,
    trained_hidden_states,
    vocabulary,
)

T = TypeVar("T")

Objective = Callable[[mx.array], tuple[mx.array, mx.array]]
"""From the losses of a batch's positions, (n,), to its own and figures about it."""


def loss_and_gradient(
    place: Callable[[Any], Any], weights: Any, batch: BatchArrays, *, with_cache: bool = False
) -> tuple[tuple[mx.array, mx.array], Any]:
    """The weighted mean loss and its number of tokens, and the gradient by these weights.

    `place` puts weights into the model and returns it.
    """
    shares = (np.asarray(batch.weights) / number(batch.total_weight)).astype(np.float32)

    def write(head: Head, rows: int, hidden: mx.array, into: NDArray[np.float32]) -> float:
        losses = _write_gradients(head, hidden, batch, shares, rows=rows, into=into)
        return float(np.dot(losses, shares))

    loss, gradient = _through_body(place, weights, batch, write, with_cache=with_cache)
    return (mx.array(loss, mx.float32), batch.target_count), gradient


def objective_and_gradient(
    place: Callable[[Any], Any],
    weights: Any,
    batch: TrainedTokens,
    objective: Objective,
    *,
    with_cache: bool = False,
) -> tuple[tuple[mx.array, mx.array], Any]:
    """What an objective makes of the positions' losses, and its gradient by these weights.

    What each loss counts for is known only once all are: the gradients are scaled by it then.
    """

    def write(
        head: Head, rows: int, hidden: mx.array, into: NDArray[np.float32]
    ) -> tuple[mx.array, mx.array]:
        ones = np.ones(hidden.shape[0], np.float32)
        losses = _write_gradients(head, hidden, batch, ones, rows=rows, into=into)
        found, slopes = mx.value_and_grad(objective)(mx.array(losses))
        into *= np.asarray(slopes)[:, None]
        return found

    return _through_body(place, weights, batch, write, with_cache=with_cache)


def token_losses(model: Any, batch: TrainedTokens, *, with_cache: bool = False) -> mx.array:
    """(n,): the cross entropy at each of the batch's positions, without a gradient."""
    hidden = trained_hidden_states(model, batch, with_cache=with_cache)
    head, target_ids = head_of(model), np.asarray(batch.targets)
    mx.eval(hidden)
    losses = np.empty(hidden.shape[0], np.float32)
    for chunk in chunks(hidden.shape[0], chunk_rows(vocabulary(model))):
        logits = np.asarray(head(hidden[chunk]).astype(mx.float32))
        losses[chunk] = _become_exponentials(logits, target_ids[chunk])[0]
    return mx.array(losses)


def _through_body(
    place: Callable[[Any], Any],
    weights: Any,
    batch: TrainedTokens,
    write: Callable[[Head, int, mx.array, NDArray[np.float32]], T],
    *,
    with_cache: bool,
) -> tuple[T, Any]:
    """What `write` returns, and the gradient that it writes, carried back through the body."""
    gradients: list[mx.array] = []

    def product(weights: Any) -> tuple[mx.array, mx.array]:
        hidden = trained_hidden_states(place(weights), batch, with_cache=with_cache)
        gradients.append(mx.array(np.zeros(hidden.shape, np.float32)))
        return (hidden * gradients[0].astype(hidden.dtype)).sum(), hidden

    (_, hidden), gradient = mx.value_and_grad(product)(weights)
    model = place(weights)
    mx.eval(hidden)
    found = write(head_of(model), chunk_rows(vocabulary(model)), hidden, np.asarray(gradients[0]))
    return found, gradient


def _write_gradients(
    head: Head,
    hidden: mx.array,
    batch: TrainedTokens,
    weights: NDArray[np.float32],
    *,
    rows: int,
    into: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The losses of all positions; their weighted gradients by the hidden states go `into`."""
    target_ids = np.asarray(batch.targets)
    losses = np.empty(hidden.shape[0], np.float32)
    for chunk in chunks(hidden.shape[0], rows):
        logits = head(hidden[chunk])
        values = logits.astype(mx.float32)
        losses[chunk] = _become_gradient(np.asarray(values), target_ids[chunk], weights[chunk])
        _, (gradient,) = mx.vjp(head, [hidden[chunk]], [values.astype(logits.dtype)])
        into[chunk] = np.asarray(gradient.astype(mx.float32))
    return losses


def _become_gradient(
    logits: NDArray[np.float32], targets: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The losses of the rows; their weighted gradient overwrites the logits."""
    losses, total = _become_exponentials(logits, targets)
    logits *= weights[:, None] / total
    logits[np.arange(len(targets)), targets] -= weights
    return losses


def _become_exponentials(
    logits: NDArray[np.float32], targets: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The losses of the rows and the sums (rows, 1) of the exponentials that overwrite the logits,
    which are those of the differences from each row's largest."""
    top = logits.max(axis=-1, keepdims=True)
    at_target = logits[np.arange(len(targets)), targets]
    logits -= top
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1, keepdims=True)
    losses: NDArray[np.float32] = np.log(total).squeeze(-1) + top.squeeze(-1) - at_target
    return losses, total

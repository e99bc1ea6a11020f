"""The chunked loss and its gradient on a CPU, with NumPy's softmax.

Beside matrix products, most of a step there is exp, which MLX computes one value at a time, for
the loss and again for the gradient; NumPy's is nine times faster. But NumPy needs values, and MLX
frees nothing that is evaluated while a function is traced. So the body is traced with a gradient
that is filled in afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft.compute.arrays import number
from mlxft.compute.training.batches import BatchArrays
from mlxft.compute.training.chunked import chunk_rows, chunks
from mlxft.compute.training.model_parts import (
    Head,
    head_of,
    trained_hidden_states,
    vocabulary,
)


def loss_and_gradient(
    place: Callable[[Any], Any], weights: Any, batch: BatchArrays, *, with_cache: bool = False
) -> tuple[tuple[mx.array, mx.array], Any]:
    """The weighted mean loss and its number of tokens, and the gradient by these weights.

    `place` puts weights into the model and returns it.
    """
    gradients: list[mx.array] = []

    def product(weights: Any) -> tuple[mx.array, mx.array]:
        hidden = trained_hidden_states(place(weights), batch, with_cache=with_cache)
        gradients.append(mx.array(np.zeros(hidden.shape, np.float32)))
        return (hidden * gradients[0].astype(hidden.dtype)).sum(), hidden

    (_, hidden), gradient = mx.value_and_grad(product)(weights)
    model = place(weights)
    (into,) = gradients
    loss = _write_gradient(
        head_of(model), hidden, batch, rows=chunk_rows(vocabulary(model)), into=into
    )
    return (mx.array(loss, mx.float32), batch.target_count), gradient


def _write_gradient(
    head: Head, hidden: mx.array, batch: BatchArrays, *, rows: int, into: mx.array
) -> float:
    """The mean loss; its gradient by the hidden states is written into the array `into`."""
    mx.eval(hidden)
    written = np.asarray(into)
    target_ids, total_weight = np.asarray(batch.targets), number(batch.total_weight)
    weights = (np.asarray(batch.weights) / total_weight).astype(np.float32)
    total = 0.0
    for chunk in chunks(hidden.shape[0], rows):
        logits = head(hidden[chunk])
        values = logits.astype(mx.float32)
        total += _become_gradient(np.asarray(values), target_ids[chunk], weights[chunk])
        _, (gradient,) = mx.vjp(head, [hidden[chunk]], [values.astype(logits.dtype)])
        written[chunk] = np.asarray(gradient.astype(mx.float32))
    return total


def _become_gradient(
    logits: NDArray[np.float32], targets: NDArray[np.int32], weights: NDArray[np.float32]
) -> float:
    """The weighted sum of the rows' losses; their gradient overwrites the logits."""
    rows = np.arange(len(targets))
    top = logits.max(axis=-1, keepdims=True)
    at_target = logits[rows, targets]
    logits -= top
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1, keepdims=True)
    logits *= weights[:, None] / total
    logits[rows, targets] -= weights
    losses = np.log(total).squeeze(-1) + top.squeeze(-1) - at_target
    return float(np.dot(losses, weights))

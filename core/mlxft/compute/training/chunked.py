"""Losses in little memory: logits only where a token is trained, a chunk at a time.

Each chunk leaves the gradient of its hidden states behind instead of its logits. That is right
only while the head is frozen, as in all fine-tuning here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import mlx.core as mx

from mlxft.compute.training.batches import BatchArrays, TrainedTokens
from mlxft.compute.training.model_parts import head_of, trained_hidden_states, vocabulary

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)

CHUNK_LOGITS: Final = 2**22 if _ON_CPU else 2**26
"""Logits per chunk: on a GPU 512 positions of a 128k vocabulary, since fewer don't fill it."""

FEW_POSITIONS: Final = 0 if _ON_CPU else 1024
"""Of so many the chunks are half as large, on a GPU that is not busy with them anyway: their logits
would be most of a short batch's memory."""

_SMALLEST_CHUNK: Final = 128

CHUNK_MULTIPLE: Final = 1 if _ON_CPU else 128
"""Of a chunk's positions, which a GPU's products compute in blocks."""

_ChunkLoss = Callable[[mx.array, mx.array, mx.array], mx.array]
"""The summed loss of (hidden states, targets, weights)."""


def chunked_mean(
    model: Any, batch: BatchArrays, *, with_cache: bool = False
) -> tuple[mx.array, mx.array]:
    """The weighted mean loss and its number of tokens; the head is taken as constant.

    Raises `LookupError` for a model whose body isn't found.
    """
    hidden = trained_hidden_states(model, batch, with_cache=with_cache)
    rows, head = chunk_rows(vocabulary(model), hidden.shape[0]), head_of(model)

    def chunk_loss(hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
        return (mx.fast.cross_entropy(head(hidden), targets) * weights).sum()

    total = (_with_gradient if model.training else _sequential)(chunk_loss, rows)
    summed = total(hidden, batch.targets, batch.weights)
    return summed / batch.total_weight, batch.target_count


def token_losses(model: Any, batch: TrainedTokens, *, with_cache: bool = False) -> mx.array:
    """(n,): the cross entropy at each of the batch's positions; the head is taken as constant.

    Raises `LookupError` for a model whose body isn't found.
    """
    hidden = trained_hidden_states(model, batch, with_cache=with_cache)
    rows, head = chunk_rows(vocabulary(model), hidden.shape[0]), head_of(model)

    def chunk_losses(hidden: mx.array, targets: mx.array) -> mx.array:
        return mx.fast.cross_entropy(head(hidden), targets)

    losses = (_with_gradients if model.training else _one_by_one)(chunk_losses, rows)
    return losses(hidden, batch.targets)


def chunk_rows(vocabulary: int, positions: int) -> int:
    """Positions per chunk of so many, for a vocabulary of this size."""
    most = CHUNK_LOGITS // (2 if positions <= FEW_POSITIONS else 1) // vocabulary
    return max(_SMALLEST_CHUNK, most // CHUNK_MULTIPLE * CHUNK_MULTIPLE)


def chunks(positions: int, rows: int) -> list[slice]:
    """The slices of `rows` positions each."""
    return [slice(start, start + rows) for start in range(0, positions, rows)]


def _sequential(chunk_loss: _ChunkLoss, rows: int) -> _ChunkLoss:
    """The sum of the chunks' losses, each computed after the one before it.

    Without an order MLX computes all chunks at once, in the memory of all.
    """

    def total(hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
        losses: list[mx.array] = []
        for chunk in chunks(hidden.shape[0], rows):
            (states,) = mx.depends([hidden[chunk]], losses[-1:]) if losses else (hidden[chunk],)
            losses.append(chunk_loss(states, targets[chunk], weights[chunk]))
        return mx.stack(losses).sum()

    return total


def _with_gradient(chunk_loss: _ChunkLoss, rows: int) -> _ChunkLoss:
    """The same, to be differentiated by its first argument.

    A chunk's gradient is computed along with its loss, so that its logits are needed only once and
    nothing of their size is kept for the backward pass.
    """
    loss_and_gradient = mx.value_and_grad(chunk_loss)

    def forward(hidden: mx.array, targets: mx.array, weights: mx.array) -> Any:
        losses: list[mx.array] = []
        gradients: list[mx.array] = []
        for chunk in chunks(hidden.shape[0], rows):
            before = [*losses[-1:], *gradients[-1:]]
            (states,) = mx.depends([hidden[chunk]], before) if before else (hidden[chunk],)
            loss, gradient = loss_and_gradient(states, targets[chunk], weights[chunk])
            losses.append(loss)
            gradients.append(gradient)
        return mx.stack(losses).sum(), mx.concatenate(gradients)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> Any:
        hidden, targets, weights = primals
        gradient = outputs[1] * cotangents[0].astype(hidden.dtype)
        return gradient, mx.zeros_like(targets), mx.zeros_like(weights)

    function: Any = mx.custom_function(forward)
    function.vjp(backward)
    return lambda *arguments: function(*arguments)[0]


_TokenLosses = Callable[[mx.array, mx.array], mx.array]
"""The loss of each position of (hidden states, targets)."""


def _one_by_one(chunk_losses: _TokenLosses, rows: int) -> _TokenLosses:
    """All positions' losses, each chunk computed after the one before it."""

    def losses(hidden: mx.array, targets: mx.array) -> mx.array:
        found: list[mx.array] = []
        for chunk in chunks(hidden.shape[0], rows):
            (states,) = mx.depends([hidden[chunk]], found[-1:]) if found else (hidden[chunk],)
            found.append(chunk_losses(states, targets[chunk]))
        return mx.concatenate(found)

    return losses


def _with_gradients(chunk_losses: _TokenLosses, rows: int) -> _TokenLosses:
    """The same, to be differentiated by its first argument.

    A position's loss depends on its own hidden state alone, so the gradient of the sum is kept and
    scaled by what each loss turns out to count for: logits are needed only once here too.
    """

    def summed(hidden: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
        losses = chunk_losses(hidden, targets)
        return losses.sum(), losses

    gradient_of = mx.value_and_grad(summed)

    def forward(hidden: mx.array, targets: mx.array) -> Any:
        losses: list[mx.array] = []
        gradients: list[mx.array] = []
        for chunk in chunks(hidden.shape[0], rows):
            before = [*losses[-1:], *gradients[-1:]]
            (states,) = mx.depends([hidden[chunk]], before) if before else (hidden[chunk],)
            (_, found), gradient = gradient_of(states, targets[chunk])
            losses.append(found)
            gradients.append(gradient)
        return mx.concatenate(losses), mx.concatenate(gradients)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> Any:
        gradient = outputs[1] * cotangents[0][:, None].astype(primals[0].dtype)
        return gradient, mx.zeros_like(primals[1])

    function: Any = mx.custom_function(forward)
    function.vjp(backward)
    return lambda hidden, targets: function(hidden, targets)[0]

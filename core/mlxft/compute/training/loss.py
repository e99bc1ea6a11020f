"""The loss of a batch: the mean cross entropy over its trained tokens, in little memory.

Logits are the largest arrays of a step: a row of the vocabulary's size for each token. They are
made only where a token is trained, a chunk of positions after the other, and each chunk leaves its
gradient with respect to the hidden states behind instead of its logits. That is right while the
head is frozen, as every fine-tuning here leaves it; `verified` compares the two ways on a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.training import packing
from mlxft.compute.training.batches import BatchArrays, batch_arrays

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)

CHUNK_LOGITS: Final = 2**23 if _ON_CPU else 2**26
"""Logits in a chunk: 512 positions of a vocabulary of 128k on a GPU, which fewer don't fill."""

_SMALLEST_CHUNK: Final = 128
_ChunkLoss = Callable[[mx.array, mx.array, mx.array], mx.array]
_Head = Callable[[mx.array], mx.array]
_BODIES: Final = ("model", "transformer", "backbone")
_TOLERANCE: Final = {
    mx.float32: 1e-3 if _ON_CPU else 1e-2,
    mx.float16: 2e-2,
    mx.bfloat16: 5e-2 if _ON_CPU else 1e-1,
}
"""How far apart rounding may take the two, by what a model's least precise weights are.

A BLAS sums another number of rows in another order, and a GPU multiplies float32 with fewer digits.
A soft cap or a scale that is left out makes a difference of a tenth and more.
"""


class Loss(Protocol):
    """A batch's mean loss in nats, and how many tokens it is the mean of."""

    def __call__(self, model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]: ...


def plain_loss(model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]:
    """The mean loss from the logits of every position, as the model itself gives them."""
    logits = model(batch.tokens[:, :-1], **_cache(model, batch))
    trained = logits.reshape(-1, logits.shape[-1])[batch.positions]
    losses = mx.fast.cross_entropy(trained, _targets(batch))
    return (losses * _weights(batch)).sum() / batch.target_count, batch.target_count


def chunked_loss(model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]:
    """The mean loss with logits only where a token is trained, a chunk at a time.

    The head is taken as constant. Raises `LookupError` for a model whose body can't be found.
    """
    hidden = _hidden(model, batch)
    rows, head = chunk_rows(_vocabulary(model)), _head(model)

    def chunk_loss(hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
        return (mx.fast.cross_entropy(head(hidden), targets) * weights).sum()

    total = (_with_gradient if model.training else _sequential)(chunk_loss, rows)
    return total(hidden, _targets(batch), _weights(batch)) / batch.target_count, batch.target_count


def _hidden(model: Any, batch: BatchArrays) -> mx.array:
    """What the body makes of the positions that are trained, (positions, hidden)."""
    hidden: mx.array = _body(model)(batch.tokens[:, :-1], **_cache(model, batch))
    return hidden.reshape(-1, hidden.shape[-1])[batch.positions]


def _head(model: Any) -> _Head:
    """The rest of the model: from hidden states (positions, hidden) to logits."""
    body = _body(model)

    def head(hidden: mx.array) -> mx.array:
        with _given(body, hidden[None]):
            logits: mx.array = model(mx.zeros((1, hidden.shape[0]), mx.int32))
        return logits.squeeze(0)

    return head


def with_gradient(
    loss: Loss, place: Callable[[Any], Any], weights: Any, batch: BatchArrays
) -> tuple[tuple[mx.array, mx.array], Any]:
    """A batch's mean loss and trained tokens, and the gradient by these weights.

    `place` puts weights into the model and returns it.
    """
    if loss is chunked_loss and _ON_CPU:
        return _through_numpy(place, weights, batch)
    return mx.value_and_grad(lambda weights: loss(place(weights), batch))(weights)


def _through_numpy(
    place: Callable[[Any], Any], weights: Any, batch: BatchArrays
) -> tuple[tuple[mx.array, mx.array], Any]:
    """The chunked loss on a CPU, where most of a step beside the products is exp.

    MLX computes it a value at a time, for the loss and again for the gradient; NumPy's is nine
    times faster, but needs values, and while MLX traces a function it frees nothing that is
    evaluated. So the body is traced with a gradient that is written into its array afterwards.
    """
    gradients: list[mx.array] = []

    def product(weights: Any) -> tuple[mx.array, mx.array]:
        hidden = _hidden(place(weights), batch)
        gradients.append(mx.array(np.zeros(hidden.shape, np.float32)))
        return (hidden * gradients[0].astype(hidden.dtype)).sum(), hidden

    (_, hidden), gradient = mx.value_and_grad(product)(weights)
    model = place(weights)
    (into,) = gradients
    total = _write_gradient(_head(model), hidden, batch, chunk_rows(_vocabulary(model)), into)
    return (mx.array(total, mx.float32), batch.target_count), gradient


def _write_gradient(
    head: _Head, hidden: mx.array, batch: BatchArrays, rows: int, into: mx.array
) -> float:
    """The mean loss; its gradient by the hidden states is written into an array."""
    mx.eval(hidden)
    written = np.asarray(into)
    targets, count = np.asarray(_targets(batch)), number(batch.target_count)
    weights = (np.asarray(_weights(batch)) / count).astype(np.float32)
    total = 0.0
    for part in _parts(hidden, rows):
        logits = head(hidden[part])
        values = logits.astype(mx.float32)
        total += _become_gradient(np.asarray(values), targets[part], weights[part])
        _, (gradient,) = mx.vjp(head, [hidden[part]], [values.astype(logits.dtype)])
        written[part] = np.asarray(gradient.astype(mx.float32))
    return total


def _become_gradient(
    logits: NDArray[np.float32], targets: NDArray[np.int32], weights: NDArray[np.float32]
) -> float:
    """The weighted sum of the rows' losses, whose gradient takes the place of the logits."""
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


def chunk_rows(vocabulary: int) -> int:
    """How many positions a chunk has for a vocabulary of this size."""
    return max(_SMALLEST_CHUNK, CHUNK_LOGITS // vocabulary)


def verified(model: Any) -> tuple[Loss, str | None]:
    """The loss to train this model with, and why it is the plain one where it is.

    Both losses and their gradients are computed on a small batch of any tokens.
    """
    was_training = model.training
    model.train()
    try:
        batch = _probe(_vocabulary(model))
        theirs, ours = (_measured(each, model, batch) for each in (plain_loss, chunked_loss))
    except Exception as error:  # any model's own code may refuse to be taken apart
        return plain_loss, f"its parts can't be run apart ({type(error).__name__}: {error})"
    finally:
        model.train(was_training)
    difference = max(_difference(a, b) for a, b in zip(theirs, ours, strict=True))
    if difference <= _TOLERANCE[_least_precise(model)]:
        return chunked_loss, None
    return plain_loss, f"the chunked loss differs from the plain one by {difference:.1g}"


def _probe(vocabulary: int) -> BatchArrays:
    """Two rows of any tokens, of which the second's first half is not trained."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, (2, 17), np.int32)
    trained = np.ones(tokens.shape, np.bool_)
    trained[1, :8] = False
    return batch_arrays(tokens, trained)


def _measured(loss: Loss, model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]:
    """The loss, and the gradient of all that is trained, end to end.

    By array the rounding of a small gradient that is the sum of large ones would decide.
    """

    def place(weights: Any) -> Any:
        model.update(weights)
        return model

    # A DoRA or LoRA update is zero at its start, and half of its gradients then are too; the
    # comparison of the others still covers the whole way back through the body.
    mx.random.seed(0)  # Both get the same dropout.
    weights = model.trainable_parameters()
    (value, _), gradient = with_gradient(loss, place, weights, batch)
    arrays = [each.reshape(-1).astype(mx.float32) for each in named_arrays(gradient).values()]
    whole = mx.concatenate(arrays)
    mx.eval(value, whole)
    model.update(weights)
    return value, whole


def _difference(theirs: mx.array, ours: mx.array) -> float:
    """How far apart two arrays are, relative to the length of the first."""
    theirs, ours = theirs.astype(mx.float32), ours.astype(mx.float32)
    length, distance = number(mx.linalg.norm(theirs)), number(mx.linalg.norm(theirs - ours))
    return distance / max(length, 1e-6) if math.isfinite(distance) else math.inf


def _least_precise(model: Any) -> mx.Dtype:
    dtypes = {array.dtype for array in named_arrays(model.parameters()).values()}
    return next((each for each in (mx.bfloat16, mx.float16) if each in dtypes), mx.float32)


def _sequential(chunk_loss: _ChunkLoss, rows: int) -> _ChunkLoss:
    """The sum of the chunks' losses, each computed after the one before it.

    Without an order MLX computes all chunks at once, in the memory of all.
    """

    def total(hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
        losses: list[mx.array] = []
        for part in _parts(hidden, rows):
            (chunk,) = mx.depends([hidden[part]], losses[-1:]) if losses else (hidden[part],)
            losses.append(chunk_loss(chunk, targets[part], weights[part]))
        return mx.stack(losses).sum()

    return total


def _with_gradient(chunk_loss: _ChunkLoss, rows: int) -> _ChunkLoss:
    """The same, to be differentiated by its first argument.

    A chunk's gradient is computed along with its loss, so that its logits are needed but once and
    nothing of their size is kept for the way back.
    """
    loss_and_gradient = mx.value_and_grad(chunk_loss)

    def forward(hidden: mx.array, targets: mx.array, weights: mx.array) -> Any:
        losses: list[mx.array] = []
        gradients: list[mx.array] = []
        for part in _parts(hidden, rows):
            before = [*losses[-1:], *gradients[-1:]]
            (chunk,) = mx.depends([hidden[part]], before) if before else (hidden[part],)
            loss, gradient = loss_and_gradient(chunk, targets[part], weights[part])
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


def _parts(hidden: mx.array, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, hidden.shape[0], rows)]


def _cache(model: Any, batch: BatchArrays) -> dict[str, Any]:
    """The argument that keeps packed records apart; none where a row is one record."""
    if batch.segments is None:
        # Some bodies have no default for it.
        return {"cache": None}
    return {"cache": packing.caches(model, batch.segments[:, :-1])}


def _targets(batch: BatchArrays) -> mx.array:
    return batch.tokens[:, 1:].reshape(-1)[batch.positions]


def _weights(batch: BatchArrays) -> mx.array:
    """One for each position that counts, zero for those that fill up."""
    return (mx.arange(batch.positions.shape[0]) < batch.target_count).astype(mx.float32)


def _text_model(model: Any) -> Any:
    """The model that turns tokens into logits, inside of one that sees images too."""
    while "language_model" in model:
        model = model["language_model"]
    return model


def _body(model: Any) -> Any:
    """The part of a model that turns tokens into hidden states. Raises `LookupError`."""
    text_model = _text_model(model)
    name = next((each for each in _BODIES if each in text_model), None)
    if name is None:
        raise LookupError("its body has no known name")
    return text_model[name]


def _vocabulary(model: Any) -> int:
    text_model = _text_model(model)
    arguments: Any = getattr(text_model, "args", None) or getattr(text_model, "config", None)
    return int(arguments.vocab_size)


@contextmanager
def _given(body: Any, hidden: mx.array) -> Iterator[None]:
    """A body that answers with these hidden states, so that a model's own call is its head.

    So soft-caps and scales of the logits need not be known. The body's class is changed, since a
    call looks its method up there, and changed back at the end.
    """
    cls = type(body)
    own = cls.__dict__.get("__call__")
    call = cls.__call__

    def answer(self: Any, *arguments: Any, **options: Any) -> Any:
        return hidden if self is body else call(self, *arguments, **options)

    cls.__call__ = answer
    try:
        yield
    finally:
        if own is None:
            del cls.__call__
        else:
            cls.__call__ = own

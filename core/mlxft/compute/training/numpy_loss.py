"""The chunked loss and its gradient on a CPU, with NumPy's softmax.

Beside matrix products, most of a step there is exp, which MLX computes one value at a time, for
the loss and again for the gradient; NumPy's is nine times faster. But NumPy needs values, and MLX
frees nothing that is evaluated while a function is traced. So the body is traced with a gradient
that is filled in afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
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

Objective = Callable[[mx.array], tuple[mx.array, mx.array]]
"""From the losses of a batch's positions, (n,), to its own and figures about it."""


def loss_and_gradient(
    place: Callable[[Any], Any],
    weights: Any,
    batch: BatchArrays,
    *,
    with_cache: bool = False,
    streams: Sequence[mx.Stream] = (),
) -> tuple[tuple[mx.array, mx.array], Any]:
    """The weighted mean loss and its number of tokens, and the gradient by these weights.

    `place` puts weights into the model and returns it. Rows are dealt to the `streams`, which
    compute at the same time.
    """
    shares = (np.asarray(batch.weights) / number(batch.total_weight)).astype(np.float32)
    parts = _parts(batch, shares, max(1, len(streams)))
    passes = []
    for at, part in enumerate(parts):
        with _on(streams, at):
            passes.append(_body_pass(place, weights, part, with_cache=with_cache))
    model = place(weights)
    mx.eval([each.hidden for each in passes])
    # As many logits at once as of one part alone.
    rows = max(1, chunk_rows(vocabulary(model), batch.targets.size) // len(parts))
    loss = _write_all(head_of(model), passes, parts, rows, streams)
    gradients = [each.gradient for each in passes]
    gradient = tree_map(lambda *of_parts: sum(of_parts[1:], of_parts[0]), *gradients)
    return (mx.array(loss, mx.float32), batch.target_count), gradient


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some rows of a batch, up to the last token that any of them is trained on.

    `positions` are indices into its own inputs, `shares` their weights in the batch's mean.
    """

    tokens: mx.array
    positions: mx.array
    segments: mx.array | None
    shares: NDArray[np.float32]

    @property
    def targets(self) -> mx.array:
        """(n,): the token to predict at each position."""
        return self.tokens[:, 1:].reshape(-1)[self.positions]


def _parts(batch: BatchArrays, shares: NDArray[np.float32], count: int) -> list[_Part]:
    """The batch's rows in at most so many parts, without padding that nothing depends on.

    Batches are padded to few sizes for the sake of compiled steps, which a CPU has not.
    """
    tokens, real = np.asarray(batch.tokens), shares != 0
    segments = None if batch.segments is None else np.asarray(batch.segments)
    rows, places = np.divmod(np.asarray(batch.positions)[real], tokens.shape[1] - 1)
    parts = []
    for own in np.array_split(np.arange(tokens.shape[0]), count):
        inside = np.isin(rows, own)
        if inside.any():
            reach = int(places[inside].max()) + 1
            cut = slice(own[0], own[-1] + 1), slice(reach + 1)
            positions = (rows[inside] - own[0]) * reach + places[inside]
            parts.append(
                _Part(
                    tokens=mx.array(tokens[cut]),
                    positions=mx.array(positions.astype(np.int32)),
                    segments=None if segments is None else mx.array(segments[cut]),
                    shares=shares[real][inside],
                )
            )
    return parts


def _on(streams: Sequence[mx.Stream], at: int) -> AbstractContextManager[Any]:
    return mx.stream(streams[at]) if streams else nullcontext()


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

    traced = _body_pass(place, weights, batch, with_cache=with_cache)
    model, into = place(weights), traced.change
    mx.eval(traced.hidden)
    rows, targets = chunk_rows(vocabulary(model), batch.targets.size), np.asarray(batch.targets)
    losses = _write_gradients(head_of(model), traced.hidden, targets, rows, into)
    found, slopes = mx.value_and_grad(objective)(mx.array(losses))
    into *= np.asarray(slopes)[:, None]
    return found, traced.gradient


def token_losses(model: Any, batch: TrainedTokens, *, with_cache: bool = False) -> mx.array:
    """(n,): the cross entropy at each of the batch's positions, without a gradient."""
    hidden = trained_hidden_states(model, batch, with_cache=with_cache)
    head, target_ids = head_of(model), np.asarray(batch.targets)
    mx.eval(hidden)
    losses = np.empty(hidden.shape[0], np.float32)
    for chunk in chunks(hidden.shape[0], chunk_rows(vocabulary(model), hidden.shape[0])):
        losses[chunk] = _losses_of(head, hidden[chunk], target_ids[chunk])
    return mx.array(losses)


def _losses_of(head: Head, hidden: mx.array, targets: NDArray[np.int32]) -> NDArray[np.float32]:
    """The same of one chunk."""
    logits = np.asarray(head(hidden).astype(mx.float32))
    return _become_exponentials(logits, targets)[0]


@dataclass(frozen=True, kw_only=True)
class _BodyPass:
    """The body's hidden states at the trained positions and, once their gradient is written into
    `change`, the gradient by the weights; both still to be computed."""

    hidden: mx.array
    change: NDArray[np.float32]
    gradient: Any


def _body_pass(
    place: Callable[[Any], Any], weights: Any, batch: TrainedTokens, *, with_cache: bool
) -> _BodyPass:
    changes: list[mx.array] = []

    def product(weights: Any) -> tuple[mx.array, mx.array]:
        hidden = trained_hidden_states(place(weights), batch, with_cache=with_cache)
        changes.append(mx.array(np.zeros(hidden.shape, np.float32)))
        return (hidden * changes[0].astype(hidden.dtype)).sum(), hidden

    (_, hidden), gradient = mx.value_and_grad(product)(weights)
    return _BodyPass(hidden=hidden, change=np.asarray(changes[0]), gradient=gradient)


def _write_all(
    head: Head,
    passes: Sequence[_BodyPass],
    parts: Sequence[_Part],
    rows: int,
    streams: Sequence[mx.Stream],
) -> float:
    """The weighted mean loss; the gradients by the hidden states are written into `passes`."""
    targets = [np.asarray(part.targets) for part in parts]
    longest = max((len(each) for each in targets), default=0)
    # A function of its own holds nothing of a chunk while the next one is computed.
    return sum(
        _write_chunk(head, passes, parts, targets, chunk, streams)
        for chunk in chunks(longest, rows)
    )


def _write_chunk(
    head: Head,
    passes: Sequence[_BodyPass],
    parts: Sequence[_Part],
    targets: Sequence[NDArray[np.int32]],
    chunk: slice,
    streams: Sequence[mx.Stream],
) -> float:
    """A chunk's share of that loss; its gradients are written into `passes`."""
    loss = 0.0
    working = [at for at, each in enumerate(targets) if len(each) > chunk.start]
    hidden = [passes[at].hidden[chunk] for at in working]
    values = []
    for at, states in zip(working, hidden, strict=True):
        with _on(streams, at):
            values.append(head(states).astype(mx.float32))
    mx.eval(values)
    for at, each in zip(working, values, strict=True):
        shares = parts[at].shares[chunk]
        losses = _become_gradient(np.asarray(each), targets[at][chunk], shares)
        loss += float(np.dot(losses, shares))
    gradients = []
    for at, states, change in zip(working, hidden, values, strict=True):
        with _on(streams, at):
            gradients.append(_carried_back(head, states, change))
    mx.eval(gradients)
    for at, each in zip(working, gradients, strict=True):
        passes[at].change[chunk] = np.asarray(each)
    return loss


def _carried_back(head: Head, hidden: mx.array, of_logits: mx.array) -> mx.array:
    """The gradient by the hidden states from that by the logits."""
    _, (gradient,) = mx.vjp(head, [hidden], [of_logits.astype(hidden.dtype)])
    return gradient.astype(mx.float32)


def _write_gradients(
    head: Head, hidden: mx.array, targets: NDArray[np.int32], rows: int, into: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The losses of all positions; their gradients by the hidden states go `into`."""
    losses = np.empty(hidden.shape[0], np.float32)
    for chunk in chunks(hidden.shape[0], rows):
        losses[chunk] = _write_gradients_of(head, hidden[chunk], targets[chunk], into[chunk])
    return losses


def _write_gradients_of(
    head: Head, hidden: mx.array, targets: NDArray[np.int32], into: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The same of one chunk."""
    values = head(hidden).astype(mx.float32)
    losses = _become_gradient(np.asarray(values), targets, np.ones(len(targets), np.float32))
    into[:] = np.asarray(_carried_back(head, hidden, values))
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

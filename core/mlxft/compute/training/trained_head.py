"""The loss in little memory where the head is trained too: its gradient is summed over the chunks.

As in `chunked`, each chunk of positions leaves gradients behind instead of its logits.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from mlxft.compute.arrays import named_arrays
from mlxft.compute.models.embeddings import block_names, head_is_tied, token_embedding
from mlxft.compute.training.batches import BatchArrays
from mlxft.compute.training.chunked import chunk_rows, chunked_mean, chunks
from mlxft.compute.training.model_parts import head_of, trained_hidden_states, vocabulary


def head_weights(model: Any) -> dict[str, mx.array]:
    """The trained arrays that the head may use: those outside of the blocks, without the embedding
    if the head has weights of its own."""
    found = token_embedding(model)
    own = f"{found[0]}." if found and not head_is_tied(model) else None
    others = block_names(model) + ((own,) if own else ())
    return {
        name: each
        for name, each in named_arrays(model.trainable_parameters()).items()
        if not name.startswith(others)
    }


def mean_by_head(
    model: Any, batch: BatchArrays, *, with_cache: bool = False
) -> tuple[mx.array, mx.array]:
    """The mean loss and its number of tokens, to be differentiated by the head's weights too.

    Raises `LookupError` for a model whose body isn't found.
    """
    if not model.training:
        return chunked_mean(model, batch, with_cache=with_cache)
    hidden = trained_hidden_states(model, batch, with_cache=with_cache)
    trained = head_weights(model)
    head, rows = head_of(model), chunk_rows(vocabulary(model), hidden.shape[0])

    def chunk_loss(hidden: mx.array, arrays: list[mx.array], at: slice) -> mx.array:
        model.update(tree_unflatten(list(zip(trained, arrays, strict=True))))
        losses = mx.fast.cross_entropy(head(hidden), batch.targets[at])
        return (losses * batch.weights[at]).sum()

    def forward(hidden: mx.array, *arrays: mx.array) -> Any:
        total, by_head = mx.array(0.0), [mx.zeros_like(each) for each in arrays]
        by_hidden: list[mx.array] = []
        for at in chunks(hidden.shape[0], rows):
            (states,) = mx.depends([hidden[at]], [total, *by_head, *by_hidden[-1:]])
            loss, (states, found) = mx.value_and_grad(chunk_loss, (0, 1))(states, list(arrays), at)
            total = total + loss
            by_hidden.append(states)
            by_head = [a + b for a, b in zip(by_head, found, strict=True)]
        return total, mx.concatenate(by_hidden), *by_head

    def backward(primals: Any, cotangents: Any, outputs: Any) -> Any:
        return tuple(each * cotangents[0].astype(each.dtype) for each in outputs[1:])

    function: Any = mx.custom_function(forward)
    function.vjp(backward)
    try:
        total = function(hidden, *trained.values())[0]
    finally:
        model.update(tree_unflatten(list(trained.items())))
    return total / batch.target_count, batch.target_count

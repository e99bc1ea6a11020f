"""The loss of a batch: the weighted mean of the cross entropy over its trained tokens.

Logits are the largest arrays of a step, a vocabulary of values per token, so they are computed in
chunks where the model allows it; `start_checks` finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx

from mlxft.compute.training import numpy_loss
from mlxft.compute.training.batches import BatchArrays
from mlxft.compute.training.chunked import chunked_mean
from mlxft.compute.training.model_parts import cache_argument
from mlxft.compute.training.trained_head import mean_by_head

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A batch's mean loss in nats, and the number of tokens that it is the mean of.

    Logits are computed in chunks if `chunked`, else all at once. The model is given new caches if
    `with_cache`: some compute another function without them, and are answered from with them.
    `trains_head` says that gradients reach weights that the head uses.
    """

    chunked: bool
    with_cache: bool = False
    trains_head: bool = False

    def __call__(self, model: Any, batch: BatchArrays) -> tuple[mx.array, mx.array]:
        if self.chunked and self.trains_head:
            return mean_by_head(model, batch, with_cache=self.with_cache)
        if self.chunked:
            return chunked_mean(model, batch, with_cache=self.with_cache)
        cache = cache_argument(model, batch, with_cache=self.with_cache)
        logits = model(batch.tokens[:, :-1], **cache)
        trained = logits.reshape(-1, logits.shape[-1])[batch.positions]
        losses = mx.fast.cross_entropy(trained, batch.targets)
        return (losses * batch.weights).sum() / batch.total_weight, batch.target_count

    def with_gradient(
        self,
        place: Callable[[Any], Any],
        weights: Any,
        batch: BatchArrays,
        streams: Sequence[mx.Stream] = (),
    ) -> tuple[tuple[mx.array, mx.array], Any]:
        """The loss, and the gradient by these weights, which `place` puts into the model.

        A CPU deals the rows to the `streams`.
        """
        if self.chunked and _ON_CPU and not self.trains_head:
            return numpy_loss.loss_and_gradient(
                place, weights, batch, with_cache=self.with_cache, streams=streams
            )
        return mx.value_and_grad(lambda weights: self(place(weights), batch))(weights)


chunked_loss: Final = Loss(chunked=True)
plain_loss: Final = Loss(chunked=False)

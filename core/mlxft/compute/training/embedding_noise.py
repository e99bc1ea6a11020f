"""NEFTune: noise on embedded tokens while training (Jain et al. 2023).

Each value gets uniform noise of at most alpha / sqrt(L d), where L is the number of tokens of its
record and d the width of the embedding. It depends on the step's key alone, so a resume repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from mlxft.compute.models.embeddings import token_embedding
from mlxft.compute.training.place import Place, drawn
from mlxft.errors import ModelError


class EmbeddingNoise:
    """Adds noise to what a model's embedding returns, within `added`."""

    def __init__(self, model: Any, alpha: float) -> None:
        """Raises `ModelError` for a model without an embedding layer."""
        found = token_embedding(model)
        if found is None:
            raise ModelError(
                "This model has no embedding layer to add noise to; set neftune_noise_alpha to 0."
            )
        _, self._embedding = found
        self._alpha = alpha

    @contextmanager
    def added(
        self, key: mx.array, record_lengths: mx.array, place: Place | None = None
    ) -> Iterator[None]:
        """Within this the embedding's outputs (rows, width, d) are noisy.

        `record_lengths` (rows, width) has the tokens of each token's record, 0 for padding; `place`
        is where the rows are in the batch. The
        method is replaced on the layer's class, where a call looks it up, and restored at the end.
        """
        noisy, cls = self._embedding, type(self._embedding)
        own, call = cls.__dict__.get("__call__"), cls.__call__

        def with_noise(layer: Any, *inputs: Any, **options: Any) -> Any:
            embedded = call(layer, *inputs, **options)
            if layer is not noisy:
                return embedded
            return embedded + self._noise(key, embedded, record_lengths, place).astype(
                embedded.dtype
            )

        cls.__call__ = with_noise
        try:
            yield
        finally:
            if own is None:
                del cls.__call__
            else:
                cls.__call__ = own

    def _noise(
        self, key: mx.array, embedded: mx.array, record_lengths: mx.array, place: Place | None
    ) -> mx.array:
        lengths = record_lengths[:, : embedded.shape[1], None].astype(mx.float32)
        largest = self._alpha * mx.rsqrt(mx.maximum(lengths, 1.0) * embedded.shape[-1])

        def draw(shape: Sequence[int]) -> mx.array:
            return mx.random.uniform(-1.0, 1.0, shape, key=key)

        noise = drawn(draw, embedded.shape, place)
        return mx.where(lengths > 0, noise * largest, 0.0)

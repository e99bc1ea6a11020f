"""The chunks of the loss: their size, which the memory estimator assumes, and their memory."""

from __future__ import annotations

from itertools import product
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import _get_classes
from numpy.typing import NDArray

from mlxft.compute.training import chunked, numpy_loss
from mlxft.compute.training.batches import batch_arrays
from mlxft.memory import estimator
from support.architectures import ARCHITECTURES

VOCABULARIES = (300, 49_152, 128_256, 4_000_000)


POSITIONS = (100, 1024, 1025, 8192)


def test_the_estimator_knows_the_size_of_a_chunk() -> None:
    for vocabulary, positions in product(VOCABULARIES, POSITIONS):
        found = estimator.chunk_positions("cpu", vocabulary, positions)
        assert found == chunked.chunk_rows(vocabulary, positions)


def test_a_gpu_computes_chunks_of_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", estimator.CHUNK_LOGITS["cuda"])
    monkeypatch.setattr(chunked, "CHUNK_MULTIPLE", 128)
    monkeypatch.setattr(chunked, "FEW_POSITIONS", estimator.FEW_POSITIONS)
    found = [chunked.chunk_rows(*each) for each in product(VOCABULARIES, POSITIONS)]
    expected = product(("cuda",), VOCABULARIES, POSITIONS)
    assert found == [estimator.chunk_positions(*each) for each in expected]
    assert {each % 128 for each in found} == {0}
    assert chunked.chunk_rows(128_256, 1024) == 256
    assert chunked.chunk_rows(128_256, 1025) == 512


def test_a_chunks_logits_are_gone_before_the_next_ones_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = {**ARCHITECTURES["llama"], "vocab_size": 4096}
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    tokens, held = np.ones((1, 4 * 32 + 1), np.int32), []
    become_gradient = numpy_loss._become_gradient

    def counted(logits: NDArray[np.float32], *given: Any) -> NDArray[np.float32]:
        held.append(mx.get_active_memory() / logits.nbytes)
        return become_gradient(logits, *given)

    monkeypatch.setattr(numpy_loss, "chunk_rows", lambda *_: 32)
    monkeypatch.setattr(numpy_loss, "_become_gradient", counted)

    def place(weights: Any) -> Any:
        model.update(weights)
        return model

    batch = batch_arrays(tokens, np.ones(tokens.shape, np.bool_))
    numpy_loss.loss_and_gradient(place, model.trainable_parameters(), batch)
    assert len(held) == 4
    assert max(held) - held[0] < 0.5

"""The memory estimator assumes the loss's chunk size."""

from mlxft.compute import backend
from mlxft.compute.training import chunked
from mlxft.memory import estimator


def test_the_estimator_knows_the_size_of_a_chunk() -> None:
    for vocabulary in (300, 49_152, 128_256, 4_000_000):
        rows = max(estimator.SMALLEST_CHUNK, estimator.CHUNK_LOGITS[backend.kind()] // vocabulary)
        assert rows == chunked.chunk_rows(vocabulary)

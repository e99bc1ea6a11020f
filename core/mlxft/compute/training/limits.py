"""What a run limits while it trains: how far MLX schedules ahead, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
from mlx_lm.utils import maybe_set_recommended_wired_limit

from mlxft.compute import backend


@contextmanager
def training_limits(run_ahead: int | None) -> Iterator[None]:
    """Let MLX schedule ahead only below `run_ahead` bytes, and on Metal keep the model's memory
    wired, as mlx_lm advises."""
    before = maybe_set_recommended_wired_limit()
    try:
        with backend.bounded_memory(run_ahead):
            yield
    finally:
        if before is not None:
            mx.synchronize()
            mx.set_wired_limit(before)


def clear_cache(threshold: int) -> None:
    """Free the buffers that MLX keeps for reuse, if they are more than `threshold` bytes."""
    if mx.get_cache_memory() > threshold:
        mx.clear_cache()

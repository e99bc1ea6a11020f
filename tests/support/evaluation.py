"""How MLX evaluates in tests of memory."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx


def one_by_one(compute: Callable[[], None]) -> Callable[[], None]:
    """A computation of which each operation ends before the next one is begun, so that a peak
    doesn't depend on how far MLX schedules ahead."""

    def limited() -> None:
        before = mx.set_memory_limit(1)
        try:
            compute()
            mx.synchronize()
        finally:
            mx.set_memory_limit(before)

    return limited

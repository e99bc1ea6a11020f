"""The MLX thread: the only one of the process that touches an array."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mlxft.errors import EngineError

T = TypeVar("T")


async def in_mlx_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and release MLX's streams at its end.

    Streams and random state belong to a thread; ending it without releasing them aborts the
    process.
    """
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, "mlx")
    try:
        return await loop.run_in_executor(executor, _released, work)
    finally:
        executor.shutdown(wait=False)


def _released(work: Callable[[], T]) -> T:
    try:
        from mlxft.compute import backend
    except ImportError as error:
        raise EngineError(
            f"MLX can't be loaded ({error}); install it with "
            "pip install 'PATH/TO/mlxft-tui[cpu]', with the path of your clone, or [cuda13] for an "
            "NVIDIA GPU."
        ) from None
    try:
        return work()
    finally:
        backend.close()

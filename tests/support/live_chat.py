"""An engine that only answers, in a thread of its own, on the socket of a run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlxft.engine.mailbox import Call
from mlxft.engine.server import serving
from mlxft.runs.directory import RunDirectory


@contextmanager
def answering(run: RunDirectory, handle: Callable[[Call], None]) -> Iterator[None]:
    """A listening engine; `handle` runs for each call, in the engine's event loop."""
    ready, ending = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with serving(run.socket_file, handle):
            ready.set()
            await ending.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(ending.set)
        thread.join()

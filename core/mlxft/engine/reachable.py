"""Keeps a run's engine reachable, whatever becomes of the runtime folder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from mlxft.engine import address
from mlxft.engine.address import CHECK_SECONDS
from mlxft.engine.mailbox import Call
from mlxft.engine.server import Server, serving
from mlxft.errors import EngineError, StorageError
from mlxft.runs.directory import RunDirectory
from mlxft.storage.paths import runtime_dir, state_dir


@contextlib.asynccontextmanager
async def serving_run(
    directory: RunDirectory, handle: Callable[[Call], None]
) -> AsyncIterator[Server]:
    """A run's control socket, whose address is in the run's folder while the context lasts.

    Raises `EngineError` and `StorageError`.
    """
    async with serving(directory.socket_file, handle) as server:
        address.write(directory, server.path)
        try:
            yield server
        finally:
            with contextlib.suppress(OSError):
                directory.address_file.unlink()


async def keep_reachable(directory: RunDirectory, server: Server) -> None:
    """Listen again if the socket's file is removed, until cancelled.

    A session's end may remove the runtime folder for good; the state folder stays.
    """
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        for folder in (runtime_dir, state_dir):
            with contextlib.suppress(EngineError, StorageError):
                if not server.is_in_place():
                    await server.listen(folder() / directory.socket_name)
                if address.read(directory) != server.path:
                    address.write(directory, server.path)
                break

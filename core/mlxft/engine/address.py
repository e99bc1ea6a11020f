"""Where a run's engine listens, found from the run's folder."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from mlxft.engine.client import EngineClient
from mlxft.errors import EngineError, StorageError
from mlxft.runs.directory import RunDirectory
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular

CHECK_SECONDS: Final = 2.0
"""How often an engine checks that it can be reached."""

PATIENCE_SECONDS: Final = 3 * CHECK_SECONDS
"""How long a viewer waits for a live engine that can't be reached to open a new socket."""

_RETRY_SECONDS: Final = 0.25


def write(directory: RunDirectory, socket: Path) -> None:
    """Record in the run's folder where its engine listens. Raises `StorageError`."""
    try:
        write_atomically(directory.address_file, os.fsencode(socket))
    except OSError as error:
        raise StorageError(
            f"{directory.address_file}: the file can't be written ({error.strerror})."
        ) from None


def read(directory: RunDirectory) -> Path:
    """Where the run's engine listens, or would listen."""
    try:
        return Path(os.fsdecode(read_regular(directory.address_file)))
    except OSError:
        return directory.socket_file


async def connect(directory: RunDirectory, gone: str | None = None) -> EngineClient:
    """Connect to the engine of a run, waiting while it opens a new socket.

    Raises `EngineError`; `gone` is its message where the engine has ended.
    """
    end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        try:
            return await EngineClient.connect(read(directory), gone=gone)
        except EngineError:
            process = directory.process
            if process is None:
                raise
            if asyncio.get_running_loop().time() > end:
                raise EngineError(_unreachable(directory, process)) from None
        await asyncio.sleep(_RETRY_SECONDS)


def _unreachable(directory: RunDirectory, process: int) -> str:
    return (
        f"{directory.name}: its engine (process {process}) is running but doesn't listen on "
        f"{read(directory)}; kill -TERM {process} stops the run and saves it."
    )

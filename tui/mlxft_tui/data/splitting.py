"""Train, valid and test made of a set by a process, so that the screen goes on answering."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlxft.errors import DataError

if TYPE_CHECKING:
    from mlxft.data.splitting import Made, Order


def new_folder(project: Path, data: str) -> str:
    """The name of a folder beside a project's data that isn't there yet."""
    stem = f"{Path(data).name.partition('.')[0] or 'data'}-split"
    number = 1
    while (project / (name := stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return name


async def made(order: Order) -> Made:
    """Let a process follow the order; it ends with this call. Raises `DataError`."""
    from mlxft.data.splitting import Outcome

    process = await asyncio.create_subprocess_exec(
        # -P: modules in the current folder must not stand in for installed ones.
        *(sys.executable, "-P", "-m", "mlxft.data.splitting"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        told, _ = await process.communicate(msgspec.json.encode(order))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if not told:
        raise DataError(f"{order.folder}: the files can't be made; look for room in memory.")
    outcome = msgspec.json.decode(told, type=Outcome)
    if outcome.made is None:
        raise DataError(outcome.refusal)
    return outcome.made

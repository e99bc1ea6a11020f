"""Split the data into train, valid and test in a child process, so that the screen responds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlxft.errors import DataError

if TYPE_CHECKING:
    from mlxft.data.splitting import SplitRequest, SplitResult


def new_folder(project: Path, data: str) -> str:
    """An unused folder name next to a project's data."""
    stem = f"{Path(data).name.partition('.')[0] or 'data'}-split"
    number = 1
    while (project / (name := stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return name


async def split_in_child(request: SplitRequest) -> SplitResult:
    """Make the requested files in a child process; cancelling kills it. Raises `DataError`."""
    from mlxft.data.child_process import ChildProcess
    from mlxft.data.splitting import SplitReply

    with ChildProcess("mlxft.data.splitting", request, SplitReply) as child:
        async for reply in child:
            if reply.result is not None:
                return reply.result
            raise DataError(reply.error)
    raise DataError(f"{request.folder}: the split was killed; free some memory and try again.")

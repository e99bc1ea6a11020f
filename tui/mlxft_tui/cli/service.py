"""One command to a model service."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from mlxft.engine.protocol import AnyCommand, AnyReply, ModelOpened, OpenModel, Progressed
from mlxft.text.printable import printable_line
from mlxft_tui.cli.following import INTERRUPTED
from mlxft_tui.cli.status import StatusLine
from mlxft_tui.session import Session

if TYPE_CHECKING:
    from mlxft.adapters.found import FoundAdapter

ServiceCommand: TypeAlias = "AnyCommand | Callable[[ModelOpened], AnyCommand]"
"""A command, or a function that makes it for the opened model."""


def refuse_unusable(session: Session, adapter: FoundAdapter, model: str) -> None:
    """Refuse an adapter that a model can't use, and say on stderr if its weights were others.

    Raises `ModelError`.
    """
    session.refuse_unusable_adapter(adapter, model)
    if warning := session.adapter_warning(adapter.path, model):
        print(f"! {printable_line(warning)}", file=sys.stderr, flush=True)


def run_on_service(
    session: Session,
    opening: OpenModel,
    command: ServiceCommand,
    take: Callable[[AnyReply], None],
    *,
    in_lines: bool = False,
) -> int:
    """Open a model in a model service, run one command and return the exit status.

    `take` gets every reply except progress, which is shown on a terminal, and elsewhere too with
    `in_lines`. Raises `EngineError`.
    """
    try:
        asyncio.run(_run(session, opening, command, take, StatusLine(in_lines=in_lines)))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


async def _run(
    session: Session,
    opening: OpenModel,
    command: ServiceCommand,
    take: Callable[[AnyReply], None],
    status: StatusLine,
) -> None:
    with status:
        try:
            client = await session.service()
            async for reply in client.stream(opening):
                if isinstance(reply, Progressed):
                    status.progress(reply.progress)
                elif isinstance(reply, ModelOpened) and callable(command):
                    command = command(reply)
            assert not callable(command)
            async for reply in client.stream(command):
                if isinstance(reply, Progressed):
                    status.progress(reply.progress)
                else:
                    status.clear()
                    take(reply)
        finally:
            await session.close()

"""An engine of the real protocol on a real socket, whose answers are written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mlxft.conversation import Answer
from mlxft.engine.client import EngineClient
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import Answered, Chat, OpenModel, Progressed, TextGenerated
from mlxft.engine.server import serving
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import ProgressMade
from mlxft_tui.session import Session


class ScriptedEngine:
    """Writes `answer(chat)` word by word, stops when told, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Chat], str]) -> None:
        self._answer = answer
        self.asked: list[Chat | OpenModel] = []
        self.holds: asyncio.Event | None = None
        """Set it to an event to have answers wait for it after their first word."""
        self.refuses: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, call: Call) -> None:
        """Follow a call in the event loop."""
        if isinstance(call.command, Chat) and self.refuses:
            self.asked.append(call.command)
            call.refuse(self.refuses)
        elif isinstance(call.command, Chat):
            self.asked.append(call.command)
            task = asyncio.create_task(self._write(call, call.command))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            if isinstance(call.command, OpenModel):
                self.asked.append(call.command)
            call.done()

    async def _write(self, call: Call, chat: Chat) -> None:
        loading = ProgressMade(stage="loading", done=0, note="weights")
        call.send(Progressed(id=call.id, progress=loading))
        words = self._answer(chat).split(" ")
        written: list[str] = []
        for word in words:
            if call.cancelled.is_set():
                break
            piece = word if not written else " " + word
            written.append(piece)
            call.send(TextGenerated(id=call.id, text=piece))
            if self.holds is not None:
                waiting = asyncio.create_task(self.holds.wait())
                while not waiting.done() and not call.cancelled.is_set():
                    await asyncio.wait([waiting], timeout=0.01)
                waiting.cancel()
            await asyncio.sleep(0)
        answer = Answer(
            text="".join(written),
            finish_reason="cancelled" if call.cancelled.is_set() else "stop",
            prompt_tokens=31,
            generated_tokens=len(written),
            prompt_speed=812.0,
            generation_speed=41.5,
            seconds=1.3,
        )
        call.send(Answered(id=call.id, answer=answer))
        call.done()


class ScriptedSession(Session):
    """A project whose engines are both the scripted one."""

    def __init__(self, folder: Path, socket: Path) -> None:
        super().__init__(folder)
        self._socket = socket
        self._client: EngineClient | None = None

    async def service(self) -> EngineClient:
        if self._client is None or self._client.closed:
            self._client = await EngineClient.connect(self._socket)
        return self._client

    async def engine(self, directory: RunDirectory) -> EngineClient:
        return await self.service()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


@asynccontextmanager
async def scripted_session(
    folder: Path, socket: Path, answer: Callable[[Chat], str]
) -> AsyncIterator[tuple[ScriptedSession, ScriptedEngine]]:
    """A session and its engine, listening while the context lasts."""
    engine = ScriptedEngine(answer)
    async with serving(socket, engine.handle):
        session = ScriptedSession(folder, socket)
        yield session, engine
        await session.close()

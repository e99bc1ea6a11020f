"""Engines with the real protocol on a real socket, and scripted answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from mlxft.conversation.messages import Answer
from mlxft.conversation.scores import Evaluation
from mlxft.engine.client import EngineClient
from mlxft.engine.mailbox import Call
from mlxft.engine.protocol import (
    Answered,
    AnyCommand,
    Chat,
    Evaluate,
    Evaluated,
    ModelOpened,
    OpenModel,
    Progressed,
    SideBySide,
    TextGenerated,
)
from mlxft.engine.server import serving
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import ProgressMade
from mlxft_tui.session import Session, engine_gone
from support.journal import RUN_RECIPE


class ScriptedEngine:
    """Streams `answer(chat)` word by word until cancelled, and records its commands."""

    def __init__(self, answer: Callable[[Chat], str]) -> None:
        self._answer = answer
        self.hang_up: Callable[[], None] = lambda: None
        """Ends the connection, as the death of a process does."""
        self.asked: list[AnyCommand] = []
        self.holds: asyncio.Event | None = None
        """Set it to an event to have answers wait for it after their first word."""
        self.refuses: str | None = None
        self.step: int | None = None
        """The step of the weights that answer."""
        self.opens: ModelOpened | None = None
        """What the opening of a model is answered by."""
        self.downloads = False
        """Whether opening a model never finishes."""
        self.cancelled: Callable[[], bool] = lambda: False
        """Whether that was cancelled."""
        self.evaluation: Evaluation | None = None
        """What an evaluation is answered by."""
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, call: Call) -> None:
        """Follow a call in the event loop."""
        if isinstance(call.command, Chat | SideBySide) and self.refuses:
            self.asked.append(call.command)
            call.refuse(self.refuses)
        elif isinstance(call.command, Chat | SideBySide):
            self.asked.append(call.command)
            chats = (call.command,) if isinstance(call.command, Chat) else call.command.chats
            task = asyncio.create_task(self._write_all(call, chats))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif isinstance(call.command, Evaluate):
            assert self.evaluation is not None
            self.asked.append(call.command)
            call.send(Evaluated(id=call.id, evaluation=self.evaluation))
            call.done()
        elif isinstance(call.command, OpenModel) and self.downloads:
            self.asked.append(call.command)
            self.cancelled = call.cancelled.is_set
            downloading = ProgressMade(stage="downloading", done=1, total=10)
            call.send(Progressed(id=call.id, progress=downloading))
        else:
            if isinstance(call.command, OpenModel):
                self.asked.append(call.command)
            if isinstance(call.command, OpenModel) and self.opens is not None:
                call.send(msgspec.structs.replace(self.opens, id=call.id))
            call.done()

    async def _write_all(self, call: Call, chats: tuple[Chat, ...]) -> None:
        await asyncio.gather(*(self._write(call, chat, side) for side, chat in enumerate(chats)))
        call.done()

    async def _write(self, call: Call, chat: Chat, side: int) -> None:
        loading = ProgressMade(stage="loading", done=0, note="weights")
        call.send(Progressed(id=call.id, progress=loading, side=side))
        words = self._answer(chat).split(" ")
        written: list[str] = []
        for word in words:
            if call.cancelled.is_set():
                break
            piece = word if not written else " " + word
            written.append(piece)
            call.send(TextGenerated(id=call.id, text=piece, side=side, step=self.step))
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
        call.send(Answered(id=call.id, answer=answer, side=side))


class ScriptedSession(Session):
    """A project whose engines are both the scripted one."""

    def __init__(self, folder: Path, socket: Path) -> None:
        super().__init__(folder)
        self._socket = socket
        self._client: EngineClient | None = None
        self._open_at_first: OpenModel | None = OpenModel(RUN_RECIPE.model)
        """The model the application opened; a restarted service has none."""

    async def service(self) -> EngineClient:
        return await self._connected(None)

    async def _connected(self, gone: str | None) -> EngineClient:
        if self._client is None or self._client.closed:
            self._client = await EngineClient.connect(self._socket, gone=gone)
            self._client.model = self._open_at_first
            self._open_at_first = None
        return self._client

    async def engine(self, directory: RunDirectory) -> EngineClient:
        return await self._connected(engine_gone(directory))

    def hang_up(self) -> None:
        """Lose the connection, as when an engine dies."""
        self._closing = asyncio.create_task(self.close())

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
        engine.hang_up = session.hang_up
        yield session, engine
        await session.close()


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

"""The model service: opens a model for one viewer, shows records as tokens, and chats."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxft.engine.answering import answer_chat
from mlxft.engine.failure import sentence
from mlxft.engine.mailbox import Call, Mailbox
from mlxft.engine.protocol import (
    Chat,
    ModelOpened,
    OpenModel,
    Ping,
    Preview,
    Previewed,
    Progressed,
    Stop,
)
from mlxft.engine.server import serving
from mlxft.engine.worker import in_mlx_thread
from mlxft.errors import EngineError
from mlxft.paths import log_file
from mlxft.runs.events import BackendReady, ProgressMade

if TYPE_CHECKING:
    from mlxft.compute.generation import ChatModel

STOP_PATIENCE = 2.0
"""How long the end waits for a load or a download to be over; nothing is lost by leaving it."""


def serve(socket: Path, ready: Callable[[], None]) -> None:
    """Serve a viewer on this socket until it says so, or goes: until stdin ends."""
    asyncio.run(_Service().run(socket, ready))


class _SupersededError(Exception):
    """Another model was chosen while this one was being opened, or nobody waits for it."""


class _Service:
    """The main thread serves the socket; the MLX thread follows one call after the other."""

    def __init__(self) -> None:
        self._mailbox = Mailbox()
        self._ending = asyncio.Event()
        self._broken: str | None = None
        self._answering: Call | None = None
        self._backend: BackendReady | None = None
        self._model: ChatModel | None = None

    async def run(self, socket: Path, ready: Callable[[], None]) -> None:
        """Serve until the end."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch_parent, args=(loop,), daemon=True).start()
        async with serving(socket, self._handle):
            ready()
            worker = asyncio.create_task(self._work())
            await self._ending.wait()
            await asyncio.wait([worker], timeout=STOP_PATIENCE)

    # The main thread

    def _watch_parent(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the end of stdin, a pipe whose other end only the parent has."""
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._mailbox.post_first(Call(0, Stop(), lambda _: None))
        if self._answering is not None:
            self._answering.cancelled.set()
        self._ending.set()

    def _handle(self, call: Call) -> None:
        match call.command:
            case Ping():
                call.done()
            case Stop():
                call.done()
                self._end()
            case OpenModel() | Preview() | Chat() if self._broken is None:
                self._mailbox.post(call)
            case _:
                call.refuse(self._broken or "This engine has no run to control.")

    async def _work(self) -> None:
        """The MLX thread's life; should it end early, every call is refused with the reason."""
        try:
            await in_mlx_thread(self._follow_calls)
        except Exception as error:
            self._broken = sentence(error, "The model service has failed", _log())
            while (call := self._mailbox.take()) is not None:
                call.refuse(self._broken)

    # The MLX thread

    def _follow_calls(self) -> None:
        while not isinstance((call := self._mailbox.wait()).command, Stop):
            try:
                self._follow(call)
            except _SupersededError:
                call.refuse("Another model was chosen meanwhile.")
            except Exception as error:
                call.refuse(sentence(error, "The model service has failed", _log()))

    def _follow(self, call: Call) -> None:
        match call.command:
            case OpenModel():
                call.send(self._open(call, call.command))
                call.done()
            case Preview():
                call.send(self._preview(call.id, call.command))
                call.done()
            case Chat():
                self._chat(call, call.command)

    def _open(self, call: Call, command: OpenModel) -> ModelOpened:
        from mlxft.compute import backend, models
        from mlxft.compute.generation import ChatModel

        def on_progress(progress: ProgressMade) -> None:
            if call.cancelled.is_set() or self._mailbox.waiting(OpenModel):
                raise _SupersededError
            call.send(Progressed(id=call.id, progress=progress))

        self._backend = self._backend or backend.initialise()
        path = models.locate(command.model, on_progress)
        self._model = None
        self._model = ChatModel(path, command.trust_remote_code)
        return ModelOpened(
            id=call.id,
            path=str(path),
            config=_config(path),
            has_chat_template=self._model.tokenizer.has_chat_template,
            backend=self._backend,
        )

    def _preview(self, number: int, command: Preview) -> Previewed:
        from mlxft.compute import tokenization

        view = tokenization.token_view(
            self._opened().tokenizer, command.record, command.mask_prompt, command.max_seq_length
        )
        return Previewed(id=number, view=view)

    def _chat(self, call: Call, command: Chat) -> None:
        model = self._opened()
        loading = ProgressMade(stage="loading", done=0, note="weights")
        call.send(Progressed(id=call.id, progress=loading))
        self._answering = call
        model.load(Path(command.adapter) if command.adapter else None)
        answer_chat(call, model.answer, _log())
        self._answering = None

    def _opened(self) -> ChatModel:
        if self._model is None:
            raise EngineError("No model is open; choose one in the recipe first.")
        return self._model


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return config


def _log() -> Path:
    return log_file().with_name("model-service.log")

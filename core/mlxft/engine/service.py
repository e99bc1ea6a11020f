"""The model service: opens a model for one viewer, shows records as tokens, and chats."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxft.conversation.messages import Answer
from mlxft.engine.answering import answer_chat
from mlxft.engine.failure import sentence
from mlxft.engine.mailbox import Call, Mailbox
from mlxft.engine.protocol import (
    Chat,
    Evaluate,
    Evaluated,
    MeasureSpeed,
    MeasureTokens,
    ModelOpened,
    OpenModel,
    Ping,
    Preview,
    Previewed,
    Progressed,
    SideBySide,
    SpeedMeasured,
    Stop,
    TokensMeasured,
)
from mlxft.engine.server import serving
from mlxft.engine.worker import in_mlx_thread
from mlxft.errors import EngineError
from mlxft.paths import log_file
from mlxft.runs.events import BackendReady, ProgressMade

if TYPE_CHECKING:
    from mlxft.compute.generation.answers import Listener
    from mlxft.compute.generation.chat_model import ChatModel
    from mlxft.data.token_figures import TokenFigures
    from mlxft.data.token_statistics import TokenLengths

TELL_SECONDS = 0.5
"""Time between two tellings of progress."""

STOP_PATIENCE = 2.0
"""How long the end waits for a load or a download to be over; nothing is lost by leaving it."""

BROKEN_OFF = "The opening of the model was broken off; a question in the chat opens it again."

_TAKEN = (OpenModel, Preview, MeasureTokens, Chat, SideBySide, MeasureSpeed, Evaluate)


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
        self._measuring: _Measuring | None = None

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
            case _ if isinstance(call.command, _TAKEN) and self._broken is None:
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
        while True:
            call = self._mailbox.take() if self._measuring else self._mailbox.wait()
            if call is None:
                self._measure_on()
            elif isinstance(call.command, Stop):
                return
            else:
                self._follow_safely(call)

    def _follow_safely(self, call: Call) -> None:
        try:
            self._follow(call)
        except _SupersededError:
            call.refuse(
                BROKEN_OFF if call.cancelled.is_set() else "Another model was chosen meanwhile."
            )
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
            case MeasureTokens():
                self._leave_off_measuring("Another file is measured now.")
                self._measuring = _Measuring(call, self._opened())
            case Chat() | SideBySide() | MeasureSpeed() | Evaluate():
                self._answering = call
                try:
                    self._use_weights(call)
                finally:
                    self._answering = None

    def _measure_on(self) -> None:
        """A moment's work at the measuring, since nobody wants anything else."""
        assert self._measuring is not None
        try:
            goes_on = self._measuring.go_on()
        except Exception as error:
            failed = sentence(error, "The records can't be measured", _log())
            self._leave_off_measuring(failed)
        else:
            self._measuring = self._measuring if goes_on else None

    def _leave_off_measuring(self, reason: str) -> None:
        if self._measuring is not None:
            self._measuring.call.refuse(reason)
            self._measuring = None

    def _open(self, call: Call, command: OpenModel) -> ModelOpened:
        from mlxft.compute import backend
        from mlxft.compute.generation.chat_model import ChatModel
        from mlxft.compute.models import loading
        from mlxft.conversation.generation_config import advised_sampling

        def on_progress(progress: ProgressMade) -> None:
            if call.cancelled.is_set() or self._mailbox.waiting(OpenModel):
                raise _SupersededError
            call.send(Progressed(id=call.id, progress=progress))

        self._leave_off_measuring("Another model was chosen meanwhile.")
        self._backend = self._backend or backend.initialise()
        path = loading.locate(command.model, on_progress)
        self._model = None
        self._model = ChatModel(path, command.trust_remote_code)
        return ModelOpened(
            id=call.id,
            path=str(path),
            config=_config(path),
            has_chat_template=self._model.tokenizer.has_chat_template,
            backend=self._backend,
            sampling=advised_sampling(path),
        )

    def _preview(self, number: int, command: Preview) -> Previewed:
        from mlxft.compute import tokenization

        view = tokenization.token_view(self._opened().tokenizer, command.record, command.recipe)
        return Previewed(id=number, view=view)

    def _use_weights(self, call: Call) -> None:
        """Whatever needs the model itself, not just its tokenizer."""
        model = self._opened()
        loading = ProgressMade(stage="loading", done=0, note="weights")
        call.send(Progressed(id=call.id, progress=loading))
        match call.command:
            case Chat() | SideBySide():
                answer_chat(call, _answering(model), _log())
            case MeasureSpeed():
                self._measure_speed(call, call.command, model)
            case Evaluate():
                self._evaluate(call, call.command, model)

    def _measure_speed(self, call: Call, command: MeasureSpeed, model: ChatModel) -> None:
        from mlxft.compute.generation.benchmark import measured

        adapter = _path(command.adapter)
        model.load(adapter)
        lengths = command.prompt_tokens, command.generation_tokens
        for run in measured(model, model.variant(adapter), *lengths, command.runs):
            call.send(SpeedMeasured(id=call.id, run=run))
            if call.cancelled.is_set():
                break
        call.done()

    def _evaluate(self, call: Call, command: Evaluate, model: ChatModel) -> None:
        from mlxft.compute.evaluation import LeftOffError, Stage, evaluate

        def on_progress(stage: Stage, done: int, total: int) -> None:
            progress = ProgressMade(stage=stage, done=done, total=total)
            call.send(Progressed(id=call.id, progress=progress))

        try:
            found = evaluate(
                model,
                command.recipe,
                Path(command.folder),
                command.split,
                [(name, _path(adapter)) for name, adapter in command.sides],
                command.sampling,
                on_progress,
                call.cancelled.is_set,
                command.limit,
            )
        except LeftOffError:
            call.refuse("The evaluation was left off.")
            return
        call.send(Evaluated(id=call.id, evaluation=found))
        call.done()

    def _opened(self) -> ChatModel:
        if self._model is None:
            raise EngineError("No model is open; choose one in the recipe first.")
        return self._model


class _Measuring:
    """A file being measured in the time that is left over."""

    def __init__(self, call: Call, model: ChatModel) -> None:
        assert isinstance(call.command, MeasureTokens)
        from mlxft.compute.token_lengths import measure
        from mlxft.data.token_cache import kept_lengths

        self.call = call
        self._path, self._recipe = Path(call.command.path), call.command.recipe
        self._model = model.path
        self._figures: TokenFigures | None = None
        self._told = 0.0
        kept = kept_lengths(self._path, self._model, self._recipe)
        self._steps: Iterator[TokenLengths | int] = (
            iter((kept,))
            if kept
            else measure(model.tokenizer, self._path, self._recipe, whole=call.command.whole)
        )

    def go_on(self) -> bool:
        """One step; False when there is none left and the caller was told so."""
        step = next(self._steps, None)
        if step is None:
            self.call.done()
            return False
        if isinstance(step, int):
            self._tell_progress(step)
        else:
            self._take(step)
        return True

    def _take(self, found: TokenLengths) -> None:
        from mlxft.data.token_cache import keep_figures, keep_lengths
        from mlxft.data.token_statistics import token_figures

        self._figures = token_figures(found, self._recipe, str(self._path))
        if found.whole:
            keep_lengths(self._path, self._model, self._recipe, found)
            keep_figures(self._path, self._recipe, self._figures)
        self._tell(1.0 if found.whole else 0.0)

    def _tell_progress(self, lines: int) -> None:
        if self._figures and time.monotonic() - self._told >= TELL_SECONDS:
            self._tell(min(1.0, lines / max(1, self._figures.records)))

    def _tell(self, share: float) -> None:
        assert self._figures is not None
        self._told = time.monotonic()
        self.call.send(TokensMeasured(id=self.call.id, figures=self._figures, share=share))


def _answering(model: ChatModel) -> Callable[[Sequence[tuple[Chat, Listener]]], Sequence[Answer]]:
    """Has each question answered by the adapter it names, or by the base."""

    def generate(asked: Sequence[tuple[Chat, Listener]]) -> Sequence[Answer]:
        adapters = [_path(chat.adapter) if chat.question.use_adapter else None for chat, _ in asked]
        model.load(*(_path(chat.adapter) for chat, _ in asked))
        return model.answer_together(
            [
                (chat.question, adapter, listener)
                for (chat, listener), adapter in zip(asked, adapters, strict=True)
            ]
        )

    return generate


def _path(adapter: str | None) -> Path | None:
    return Path(adapter) if adapter else None


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return config


def _log() -> Path:
    return log_file().with_name("model-service.log")

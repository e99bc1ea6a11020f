"""The model service: opens a model for one viewer, tokenizes its records, chats and evaluates."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlxft.conversation.messages import Answer
from mlxft.engine.answering import answer_chat
from mlxft.engine.failure import sentence
from mlxft.engine.mailbox import Call, Mailbox
from mlxft.engine.protocol import (
    AnswerAll,
    Answered,
    Chat,
    Evaluate,
    Evaluated,
    Export,
    ExportFinished,
    MeasureSpeed,
    MeasureTokens,
    ModelOpened,
    OpenModel,
    Ping,
    Preview,
    Previewed,
    Progressed,
    QuantizeFinished,
    QuantizeModel,
    SideBySide,
    SpeedMeasured,
    Stop,
)
from mlxft.engine.server import serving
from mlxft.engine.token_measuring import TokenMeasuring
from mlxft.engine.worker import in_mlx_thread
from mlxft.errors import EngineError
from mlxft.runs.events import BackendReady, ProgressMade
from mlxft.storage.paths import log_file

if TYPE_CHECKING:
    from mlxft.compute.generation.answers import Listener
    from mlxft.compute.generation.chat_model import ChatModel

STOP_PATIENCE: Final = 2.0
"""How long a stop waits for a load or a download; nothing is lost by abandoning it."""

OPENING_CANCELLED: Final = "Opening the model was cancelled; a question in the chat opens it again."
_OTHER_MODEL: Final = "Another model was chosen meanwhile."

_ACCEPTED: Final = (
    OpenModel,
    Preview,
    MeasureTokens,
    Chat,
    SideBySide,
    AnswerAll,
    MeasureSpeed,
    Evaluate,
    Export,
    QuantizeModel,
)


def serve(socket: Path, ready: Callable[[], None]) -> None:
    """Serve a viewer on this socket until it sends `Stop` or ends, which closes stdin."""
    asyncio.run(Service().run(socket, ready))


class _SupersededError(Exception):
    """Another model was chosen while this one was opening, or nobody waits for it any more."""


class Service:
    """The main thread serves the socket; the MLX thread follows one call after another."""

    def __init__(self) -> None:
        self._mailbox = Mailbox()
        self._ending = asyncio.Event()
        self._failure: str | None = None
        self._answering: Call | None = None
        self._backend: BackendReady | None = None
        self._model: ChatModel | None = None
        self._measuring: TokenMeasuring | None = None

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
        """Wait for stdin to close; only the parent holds its other end."""
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
            case _ if isinstance(call.command, _ACCEPTED) and self._failure is None:
                self._mailbox.post(call)
            case _:
                call.refuse(self._failure or "This engine has no run to control.")

    async def _work(self) -> None:
        """Run the MLX thread; if it fails, every call is refused with the reason."""
        try:
            await in_mlx_thread(self._follow_all)
        except Exception as error:
            self._failure = sentence(error, "The model service has failed", _log())
            while (call := self._mailbox.take()) is not None:
                call.refuse(self._failure)

    # The MLX thread

    def _follow_all(self) -> None:
        while True:
            call = self._mailbox.take() if self._measuring else self._mailbox.wait()
            if call is None:
                self._measure_step()
            elif isinstance(call.command, Stop):
                return
            else:
                self.follow(call)

    def follow(self, call: Call) -> None:
        """Follow a call in the MLX thread, or refuse it with the reason."""
        try:
            self._follow(call)
        except _SupersededError:
            call.refuse(OPENING_CANCELLED if call.cancelled.is_set() else _OTHER_MODEL)
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
                self._cancel_measuring("Another file is being measured now.")
                self._measuring = TokenMeasuring(call, self._opened())
            case (
                Chat()
                | SideBySide()
                | AnswerAll()
                | MeasureSpeed()
                | Evaluate()
                | Export()
                | QuantizeModel()
            ):
                self._answering = call
                try:
                    self._use_weights(call)
                finally:
                    self._answering = None

    def _measure_step(self) -> None:
        """Measure a little, since no call is waiting."""
        assert self._measuring is not None
        try:
            has_more = self._measuring.step()
        except Exception as error:
            self._cancel_measuring(sentence(error, "Measuring the records has failed", _log()))
        else:
            self._measuring = self._measuring if has_more else None

    def _cancel_measuring(self, reason: str) -> None:
        if self._measuring is not None:
            self._measuring.call.refuse(reason)
            self._measuring = None

    def _open(self, call: Call, command: OpenModel) -> ModelOpened:
        from mlxft.compute import backend
        from mlxft.compute.generation.chat_model import ChatModel
        from mlxft.compute.models import loading
        from mlxft.conversation.generation_config import recommended_sampling

        def on_progress(progress: ProgressMade) -> None:
            if call.cancelled.is_set() or self._mailbox.waiting(OpenModel):
                raise _SupersededError
            call.send(Progressed(id=call.id, progress=progress))

        self._cancel_measuring(_OTHER_MODEL)
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
            sampling=recommended_sampling(path),
        )

    def _preview(self, number: int, command: Preview) -> Previewed:
        from mlxft.compute import tokenization

        tokenizer = self._opened().tokenizer_of(None, command.recipe.template)
        view = tokenization.token_view(tokenizer, command.record, command.recipe)
        return Previewed(id=number, view=view)

    def _use_weights(self, call: Call) -> None:
        """Follow a call that needs the weights, not only the tokenizer."""
        model = self._opened()
        loading = ProgressMade(stage="loading", done=0, note="weights")
        call.send(Progressed(id=call.id, progress=loading))
        match call.command:
            case Chat() | SideBySide():
                answer_chat(call, _answering(model), _log())
            case Export():
                _export(call, call.command, model.path)
            case QuantizeModel():
                _quantize(call, call.command, model.path)
            case AnswerAll():
                _answer_all(call, call.command, model)
            case MeasureSpeed():
                self._measure_speed(call, call.command, model)
            case Evaluate():
                self._evaluate(call, call.command, model)

    def _measure_speed(self, call: Call, command: MeasureSpeed, model: ChatModel) -> None:
        from mlxft.compute.generation.benchmark import measured

        adapter = _path(command.adapter)
        model.load(adapter)
        for run in measured(
            model,
            model.variant(adapter),
            command.prompt_tokens,
            command.generation_tokens,
            command.runs,
        ):
            call.send(SpeedMeasured(id=call.id, run=run))
            if call.cancelled.is_set():
                break
        call.done()

    def _evaluate(self, call: Call, command: Evaluate, model: ChatModel) -> None:
        from mlxft.compute.evaluation import EvaluationCancelledError, evaluate

        try:
            found = evaluate(
                model,
                command.recipe,
                Path(command.folder),
                command.split,
                [(name, _path(adapter)) for name, adapter in command.sides],
                sampling=command.sampling,
                on_progress=call.progressed,
                cancelled=call.cancelled.is_set,
                limit=command.limit,
            )
        except EvaluationCancelledError:
            call.refuse("The evaluation was cancelled.")
            return
        call.send(Evaluated(id=call.id, evaluation=found))
        call.done()

    def _opened(self) -> ChatModel:
        if self._model is None:
            raise EngineError("No model is open; choose one in the recipe first.")
        return self._model


def _answering(model: ChatModel) -> Callable[[Sequence[tuple[Chat, Listener]]], Sequence[Answer]]:
    """Answers each question with the adapter it names, or with the base model."""

    def generate(asked: Sequence[tuple[Chat, Listener]]) -> Sequence[Answer]:
        adapters = [_path(chat.adapter) if chat.question.use_adapter else None for chat, _ in asked]
        model.load(*(_path(chat.adapter) for chat, _ in asked))
        return model.answer_together(
            [
                (chat.question, adapter, listener)
                for (chat, listener), adapter in zip(asked, adapters, strict=True)
            ],
            next((chat.template for chat, _ in asked if chat.template), None),
        )

    return generate


def _answer_all(call: Call, command: AnswerAll, model: ChatModel) -> None:
    from mlxft.compute.generation import batches

    total = len(command.questions)
    done = itertools.count(1)

    def report(answered: int) -> None:
        progress = ProgressMade(stage="answering", done=answered, total=total)
        call.send(Progressed(id=call.id, progress=progress))

    def on_answer(index: int, answer: Answer) -> None:
        call.send(Answered(id=call.id, answer=answer, side=index))
        report(next(done))

    adapter = _path(command.adapter)
    model.load(adapter)
    report(0)
    batches.answer_all(
        model.variants,
        model.variant(adapter),
        model.tokenizer_of(adapter, command.template),
        command.questions,
        on_answer=on_answer,
        cancelled=call.cancelled.is_set,
    )
    call.done()


def _export(call: Call, command: Export, model: Path) -> None:
    from mlxft.compute.exporting.export import Job, export

    job = Job(
        model=model,
        adapter=Path(command.adapter),
        recipe=command.recipe,
        data=_path(command.data),
        form=command.form,
        out=Path(command.out),
        quantize=command.quantize,
        origin=command.origin,
    )
    with _cancellable(call, "The export was cancelled; nothing is left of it."):
        found = export(job, on_progress=call.progressed, cancelled=call.cancelled.is_set)
        call.send(ExportFinished(id=call.id, exported=found))
        call.done()


def _quantize(call: Call, command: QuantizeModel, model: Path) -> None:
    from mlxft.compute.exporting.quantizing import QuantizeJob, quantize

    job = QuantizeJob(
        model=model,
        recipe=command.recipe,
        data=_path(command.data),
        out=Path(command.out),
        quantization=command.quantization,
    )
    with _cancellable(call, "Quantizing was cancelled; nothing is left of it."):
        found = quantize(job, on_progress=call.progressed, cancelled=call.cancelled.is_set)
        call.send(QuantizeFinished(id=call.id, quantized=found))
        call.done()


@contextmanager
def _cancellable(call: Call, refusal: str) -> Iterator[None]:
    """Refuse the call with these words if it is cancelled meanwhile."""
    from mlxft.compute.exporting.export import ExportCancelledError

    try:
        yield
    except ExportCancelledError:
        call.refuse(refusal)


def _path(adapter: str | None) -> Path | None:
    return Path(adapter) if adapter else None


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return config


def _log() -> Path:
    return log_file().with_name("model-service.log")

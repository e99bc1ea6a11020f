"""Sends a prompt to its answerers and writes their answers into the turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec

from mlxft.chat import history, reopen
from mlxft.chat.answerers import ADAPTER, Answerer, in_training
from mlxft.chat.dialogue import Dialogue, cost, messages, status
from mlxft.conversation.messages import Answer, Message, Sampling
from mlxft.engine.protocol import Answered, AnyReply, ModelOpened, Progressed, TextGenerated
from mlxft.errors import MlxftError
from mlxft.runs.events import ProgressMade
from mlxft_tui.chat.activity import Activity
from mlxft_tui.chat.backend import ChatBackend
from mlxft_tui.chat.conversation_view import note_missed
from mlxft_tui.chat.model_choice import ModelChoice
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.frame.messages import ModelReopened
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.text.progress import Progress
from mlxft_tui.widgets.notices import show_error, warn
from mlxft_tui.widgets.remappable import with_keys

STOPS = "{chat.back} stops"
ANSWERING = f"Answering… {STOPS}"


async def opening(screen: AppScreen, backend: ChatBackend) -> AsyncIterator[AnyReply]:
    """Open the model that answers, and tell the application once it is. Raises `EngineError`."""
    run = screen.run
    async for reply in backend.opening(run, screen.recipe):
        if isinstance(reply, ModelOpened):
            screen.post_message(ModelReopened(run.recipe if run else screen.recipe, reply))
        yield reply


async def warn_of_other_weights(
    screen: AppScreen, backend: ChatBackend, answerers: Sequence[Answerer]
) -> None:
    """Say once which adapters were trained on other weights than those of their model now."""
    for message in await asyncio.to_thread(backend.new_warnings, answerers, screen.run):
        warn(screen, message)


@dataclass(kw_only=True)
class Exchange:
    """One prompt, from sending it to the end of its answers."""

    screen: AppScreen
    backend: ChatBackend
    choice: ModelChoice
    activity: Activity
    dialogue: Dialogue
    view: TurnView
    _progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        turn = self.view.turn
        before = self.dialogue.up_to(turn)
        self._run, self._recipe = self.screen.run, self.choice.recipe
        self._sampling = self._retry_sampling()
        self._requests = [
            (answerer, messages(before, answerer, self.choice.system))
            for answerer, _ in self.view.titles
        ]
        self._unanswered = dict(self._requests)

    def _retry_sampling(self) -> Sampling:
        """The chosen sampling; retries get other seeds, since the same one repeats the answer."""
        sampling = self.choice.sampling
        return msgspec.structs.replace(sampling, seed=sampling.seed + self.view.turn.attempts)

    @property
    def _retry(self) -> str:
        """The key that sends the prompt again."""
        return with_keys(self.screen, "{chat.retry}")

    async def run(self) -> None:
        """Have all answerers answer at the same time; errors are shown in place of answers."""
        note_missed(self.view, self.dialogue)
        waiting = "waiting for the current step" if in_training(self._run) else "starting the model"
        for answerer, _ in self._requests:
            self.view.answer(answerer).set_status(waiting)
        self.view.turn.titles.update(self.view.titles)
        with self.activity.running(with_keys(self.screen, ANSWERING)):
            try:
                await self._open_model()
                asked = [answerer for answerer, _ in self._requests]
                await warn_of_other_weights(self.screen, self.backend, asked)
                await self._receive_answers()
            except MlxftError as error:
                self._keep_partial_answers()
                for answerer in self._unanswered:
                    self.view.answer(answerer).fail(f"{error} {self._retry} retries.")
            except asyncio.CancelledError:
                self._keep_partial_answers()
                for answerer in self._unanswered if self.activity.was_cancelled else ():
                    self.view.answer(answerer).finish(f"stopped  {self._retry} retries")
                raise

    async def _open_model(self) -> None:
        async for reply in opening(self.screen, self.backend):
            if isinstance(reply, Progressed):
                for answerer, _ in self._requests:
                    self._show_progress(answerer, reply.progress)
        # An opened model may recommend another sampling.
        self._sampling = self._retry_sampling()

    async def _receive_answers(self) -> None:
        async for at, reply in self.backend.answers(self._requests, self._sampling, self._run):
            answerer, asked = self._requests[at]
            match reply:
                case Progressed(progress=progress):
                    self._show_progress(answerer, progress)
                case TextGenerated(text=text, step=step):
                    self.activity.received()
                    self._update_title(answerer, step)
                    self.view.answer(answerer).set_status(with_keys(self.screen, STOPS))
                    self.view.answer(answerer).write(text)
                case Answered(answer=answer, step=step):
                    self.activity.received()
                    self._update_title(answerer, step)
                    self._finish(answerer, answer, asked)

    def _show_progress(self, answerer: Answerer, progress: ProgressMade) -> None:
        described = self._progress.describe(progress, time.monotonic())
        self.view.answer(answerer).set_status(f"{described} {progress.note}".strip())

    def _update_title(self, answerer: Answerer, step: int | None) -> None:
        """Show the step of the weights, which may be ahead of the journal as read so far."""
        title = answerer.title(step)
        if answerer == ADAPTER and step is not None and self.view.turn.titles[answerer] != title:
            self.view.turn.titles[answerer] = title
            self.view.answer(answerer).set_title(title)

    def _finish(self, answerer: Answerer, answer: Answer, asked: tuple[Message, ...]) -> None:
        turn = self.view.turn
        del self._unanswered[answerer]
        turn.add(answerer, answer.text, answer.finish_reason)
        turn.costs[answerer] = cost(answer)
        self.view.answer(answerer).finish(status(turn, answerer), answer.text)
        self._remember(answerer, asked)

    def _keep_partial_answers(self) -> None:
        """Keep the prompt and the text so far of the unfinished answers."""
        for answerer, asked in self._unanswered.items():
            self.view.turn.add(answerer, self.view.answer(answerer).raw, "cancelled")
            self._remember(answerer, asked)

    def _remember(self, answerer: Answerer, asked: tuple[Message, ...]) -> None:
        """Append an answer to the project's history."""
        entry = reopen.history_entry(
            self.dialogue,
            self.view.turn,
            answerer,
            asked,
            followed=self._run.directory.name if self._run else "",
            model=self._recipe.model,
            sampling=self._sampling,
            time=self.screen.clock(),
        )
        try:
            history.remember(self.screen.session.adapters / history.HISTORY_NAME, entry)
        except MlxftError as error:
            show_error(self.screen, error)

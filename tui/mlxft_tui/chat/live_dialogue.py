"""The dialogue on screen: asks, retries, branches and evaluates."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from mlxft.chat.answerers import renamed
from mlxft.chat.dialogue import Dialogue, Turn
from mlxft.data.examples import Example
from mlxft.errors import MlxftError
from mlxft.runs.followed import FollowedRun
from mlxft_tui.chat.activity import Activity
from mlxft_tui.chat.answering import Exchange
from mlxft_tui.chat.backend import ChatBackend
from mlxft_tui.chat.conversation_view import ConversationView
from mlxft_tui.chat.evaluation import EvaluationReport, EvaluationRun
from mlxft_tui.chat.evaluation_dialog import EvaluationPlan
from mlxft_tui.chat.model_choice import ModelChoice
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.terminal import garbage
from mlxft_tui.widgets.notices import show_error, warn

IDLE_SECONDS = 1.0
"""From an answer's end, when all of it is painted, to the garbage collection."""

_REQUEST = "chat request"
"""The worker group of answers and evaluations, of which one runs at a time."""


class LiveDialogue:
    """A dialogue with its view, and the requests that extend it."""

    def __init__(
        self,
        screen: AppScreen,
        *,
        backend: ChatBackend,
        choice: ModelChoice,
        activity: Activity,
        view: ConversationView,
    ) -> None:
        self.dialogue = Dialogue()
        self._screen = screen
        self._backend = backend
        self._choice = choice
        self._activity = activity
        self._view = view
        self._named_for = ""
        """The run whose adapter and checkpoints the dialogue calls its own."""

    async def begin(self, dialogue: Dialogue) -> None:
        """Show another dialogue."""
        self.dialogue = dialogue
        await self._show()

    async def switch_branch(self, by: int) -> None:
        """Show another branch at the current turn, or at the last turn that has several."""
        dialogue, current = self.dialogue, self._view.current
        branching = [turn for turn in dialogue.turns if dialogue.branches(turn)[1] > 1]
        if not branching or current is None:
            return
        dialogue.switch(current.turn if current.turn in branching else branching[-1], by)
        await self._show()

    async def _show(self) -> None:
        await self._view.show(self.dialogue)
        self._screen.refresh_bindings()
        self._screen.call_after_refresh(self._collect_garbage, full=True)

    def rename_answerers(self) -> None:
        """Name the former run in its answers once another one is followed and none is asked."""
        followed = self._choice.followed
        if self._activity.hint or followed in ("", self._named_for):
            return
        rename = partial(
            renamed, before=self._named_for, followed=followed, name_of=self._choice.run_name
        )
        self._named_for = followed
        self.dialogue.rename(rename)
        self._view.rename(rename)

    # Requests

    async def ask(self, prompt: str, example: Example | None) -> None:
        """Send a new prompt; it is the example's if it wasn't changed."""
        self._warn_of_replacement(self._view.turns[-1:])
        turn = Turn(prompt, example if example and example.prompt == prompt else None)
        self.dialogue.add(turn)
        await self._ask_new(turn)

    async def ask_edited(self, turn: Turn, prompt: str) -> None:
        """Send another version of a turn's prompt in a new branch."""
        if turn not in self.dialogue.turns:
            self.dialogue.show(turn)
            await self._show()
        self._warn_of_replacement(each for each in self._view.turns if each.turn is turn)
        edited = turn.rewritten(prompt)
        self.dialogue.edit(turn, edited)
        await self._ask_new(edited)

    async def retry(self) -> None:
        """Send the current prompt again, in a new branch if it has answers or later turns."""
        view = self._view.current
        if view is None:
            return
        self._warn_of_replacement([view])
        if view.turn is not self.dialogue.turns[-1] or view.turn.is_answered:
            await self._ask_new(self.dialogue.retry(view.turn))
            return
        view.turn.attempts += 1
        self._view.pick(None)
        view.reset(self._choice.titles)
        self._start(view)

    async def _ask_new(self, turn: Turn) -> None:
        self._start(await self._view.add_turn(self.dialogue, turn, self._choice.titles))

    def _start(self, view: TurnView) -> None:
        self._screen.run_worker(self._exchange(view), group=_REQUEST, exclusive=True)

    async def _exchange(self, view: TurnView) -> None:
        exchange = Exchange(
            screen=self._screen,
            backend=self._backend,
            choice=self._choice,
            activity=self._activity,
            dialogue=self.dialogue,
            view=view,
        )
        try:
            await exchange.run()
        finally:
            self._screen.set_timer(IDLE_SECONDS, self._collect_garbage)

    def evaluate(self, run: FollowedRun, plan: EvaluationPlan) -> None:
        """Evaluate the run."""
        self._screen.run_worker(self._evaluation(run, plan), group=_REQUEST, exclusive=True)

    async def _evaluation(self, run: FollowedRun, plan: EvaluationPlan) -> None:
        evaluation = EvaluationRun(
            screen=self._screen,
            backend=self._backend,
            choice=self._choice,
            activity=self._activity,
            report=EvaluationReport(),
            plan=plan,
        )
        await self._view.add(evaluation.report)
        await evaluation.execute(run)

    async def stop(self) -> None:
        """Stop the request within a token, or at once if nothing was received yet."""
        try:
            await self._backend.stop()
        except MlxftError as error:
            show_error(self._screen, error)
        if self._activity.is_waiting:
            self._activity.cancel()
            self._screen.workers.cancel_group(self._screen, _REQUEST)

    def _warn_of_replacement(self, before: Iterable[TurnView]) -> None:
        notice = self._choice.replacement(each for view in before for each in view.titles)
        if notice:
            warn(self._screen, notice)

    def _collect_garbage(self, *, full: bool = False) -> None:
        if not self._screen.app.is_headless:
            garbage.settle(full=full)

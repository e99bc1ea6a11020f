"""The Chat screen: talk to the base model and to adapters, also while one is training."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType

from mlxft.chat import history, reopen
from mlxft.chat.answerers import ADAPTER, BASE, Answerer, in_training
from mlxft.chat.dialogue import Dialogue
from mlxft.chat.examples import ExamplePrompts, no_examples
from mlxft.conversation.messages import Message
from mlxft.errors import MlxftError
from mlxft.text.printable import printable
from mlxft_tui.chat.activity import Activity
from mlxft_tui.chat.answerer_dialog import AnswererDialog
from mlxft_tui.chat.answerer_line import AnswererLine
from mlxft_tui.chat.backend import ChatBackend
from mlxft_tui.chat.composer import Composer, Correct, Edit
from mlxft_tui.chat.conversation_dialog import ConversationDialog
from mlxft_tui.chat.conversation_view import ConversationView
from mlxft_tui.chat.evaluation_dialog import EvaluationDialog, EvaluationPlan
from mlxft_tui.chat.export import (
    EXPORT_NAME,
    earlier_answers,
    export_conversation,
    save_correction,
    undo_correction,
)
from mlxft_tui.chat.keys import CHAT_BINDINGS
from mlxft_tui.chat.live_dialogue import LiveDialogue
from mlxft_tui.chat.model_choice import ModelChoice
from mlxft_tui.chat.picked import PickedAnswer, picked_answer, picked_branch
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.chat.sampling_dialog import SamplingDialog
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.frame.choice import ChoiceDialog
from mlxft_tui.frame.messages import ModelReopened
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.terminal.key_queue import DIALOG
from mlxft_tui.widgets.notices import SENTENCE_SECONDS, inform, show_error, warn
from mlxft_tui.widgets.remappable import shown_key, with_keys

if TYPE_CHECKING:
    from mlxft.runs.directory import RunDirectory
    from mlxft_tui.session import Session

ASK = "Ask the model something, and see what fine-tuning changed."
NO_MODEL = "There is no model to ask yet; choose one on the Recipe screen ({go.recipe})."
WELCOME = """\

{chat.next_example}  a prompt from the test set, with the answer it expects
{chat.side_by_side}  base and adapter side by side
{chat.switch_base}  switch between base and adapter

{chat.back}  leave the prompt; then the keys below work:
{chat.models}  choose one or two models: adapter, checkpoints, other runs
{chat.history}  reopen a past conversation
{go.data} to {go.runs}  switch screens; F1 to F5 also while you type"""

NO_ADAPTER = "There is no adapter yet; train one ({go.train}) or choose a run ({go.runs})."
EDITING = "You are editing; {chat.send} saves, {chat.back} cancels."
NO_ANSWER = "There is no answer yet; ask something first."
IN_TRAINING = (
    "Evaluating would pause training for minutes; press {chat.evaluate} once the run has ended, or "
    "send single test prompts ({chat.next_example})."
)


class ChatScreen(AppScreen, keys="chat"):
    """Prompts, answers side by side, branches, corrections and evaluations."""

    HELP = """The base is the model as downloaded; an adapter is what a run trained on top of
    it; a checkpoint is the adapter as saved at an earlier step. Sampling ({chat.sampling})
    decides how each token is chosen: at temperature 0 always the most likely one, at higher ones
    with more variety. Each model sees only its own earlier answers; a test prompt is sent
    without the conversation above it. An edited prompt, or the retry of an answered one, starts
    a branch, and the old one is kept."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*CHAT_BINDINGS]
    AUTO_FOCUS = "PromptInput"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._backend = ChatBackend(session)
        self._choice = ModelChoice(self, self._backend)
        self._activity = Activity(self._activity_changed)
        self._examples: ExamplePrompts | None = None
        self._plan = EvaluationPlan()
        """What was evaluated on last."""
        self._answerers = AnswererLine("answerers")
        self._conversation = ConversationView()
        self._composer = Composer()
        self._live = LiveDialogue(
            self,
            backend=self._backend,
            choice=self._choice,
            activity=self._activity,
            view=self._conversation,
        )

    def compose_body(self) -> ComposeResult:
        yield self._answerers
        yield self._conversation
        yield self._composer

    @work(exclusive=True, group="recall")
    async def on_mount(self) -> None:
        """Let the prompt line recall the project's earlier prompts."""
        self._show_welcome()
        prompts = await asyncio.to_thread(history.remembered_prompts, self._history_file)
        self._composer.recall(prompts)

    @work(exclusive=True, group="restore")
    async def on_screen_suspend(self) -> None:
        """Reopen the recipe's model for the other screens."""
        try:
            await self._backend.restore(self.recipe)
        except MlxftError as error:
            show_error(self, error)

    @property
    def _history_file(self) -> Path:
        return self.session.adapters / history.HISTORY_NAME

    # The run and the models

    def watch_run(self) -> None:
        self._live.rename_answerers()
        self._show_answerers()
        self._show_welcome()

    def watch_recipe(self) -> None:
        self._show_answerers()
        self._show_welcome()

    def watch_model(self) -> None:
        self._show_answerers()

    def _show_welcome(self) -> None:
        has_model = bool(self.recipe.model or self.run)
        self._conversation.show_welcome(f"{ASK if has_model else NO_MODEL}\n{WELCOME}")

    @on(ModelReopened)
    def _show_answerers(self) -> None:
        self._answerers.show(self._choice.states(), self._choice.settings())

    def _activity_changed(self) -> None:
        self._live.rename_answerers()
        self.refresh_bindings()

    def action_switch(self) -> None:
        """Let the other model answer."""
        self._show_choice(self._choice.switch())

    def action_both(self) -> None:
        """Let both models answer, or one again."""
        self._show_choice(self._choice.toggle_both())

    def _show_choice(self, has_changed: bool) -> None:
        if not has_changed:
            warn(self, with_keys(self, NO_ADAPTER))
        self._show_answerers()

    def let_answer(self, runs: Sequence[RunDirectory], followed: RunDirectory) -> None:
        """Let these runs answer side by side, or one beside its base model."""
        answerers = [Answerer(each.name).seen_from(followed.name) for each in runs]
        self._choice.choose(*(answerers if len(answerers) > 1 else (BASE, *answerers)))
        self._show_answerers()

    @work(exclusive=True, group=DIALOG)
    async def action_choose(self) -> None:
        """Choose the models that answer."""
        available = await asyncio.to_thread(self._choice.available)
        names = dict(available)
        marked = [each for each in self._choice.asked if each in names] or [BASE]
        chosen = await self.app.push_screen_wait(AnswererDialog(available, marked))
        if chosen is not None:
            self._choice.choose(*chosen)
            self._show_answerers()

    @work(exclusive=True, group=DIALOG)
    async def action_sampling(self) -> None:
        """Change sampling and system prompt."""
        choice = self._choice
        dialog = SamplingDialog(choice.sampling, choice.system, choice.recommended_sampling)
        settings = await self.app.push_screen_wait(dialog)
        if settings is not None:
            choice.configure(*settings)
            self._show_answerers()

    # Writing prompts

    def action_example(self, by: int) -> None:
        """Put a test prompt into the line; keys outside the line stay outside."""
        was_outside = not isinstance(self.focused, PromptInput)
        recipe = self._choice.recipe
        folder = self.session.data(recipe)
        if self._examples is None or self._examples.source != (folder, recipe.columns):
            self._examples = ExamplePrompts(folder, recipe.columns)
        example = self._examples.step(by)
        if example is None:
            self._examples = None
            warn(self, no_examples(folder))
            return
        self._composer.load_example(example)
        if was_outside:
            self._conversation.focus()

    def action_edit(self) -> None:
        """Edit the current prompt in a new branch."""
        if view := self._conversation.current:
            self._composer.load_edit(view.turn)

    def action_correct(self) -> None:
        """Correct the picked answer into a training record."""
        if answer := self._picked_answer():
            self._composer.load_correction(answer, answer.text)

    def action_leave(self) -> None:
        """Leave the prompt, and cancel an edit or a correction."""
        if not self._composer.is_asking:
            self._composer.restore()
        self._conversation.focus()

    def action_write(self, sends: bool = False) -> None:
        """Focus the prompt; if it `sends`, an unchanged test prompt is sent instead."""
        if sends and self._composer.holds_example:
            self._composer.send()
        else:
            self._composer.focus_line()

    def action_send(self, purpose: str) -> None:
        """Send the line."""
        self._composer.send()

    # Asking

    @on(PromptInput.Sent)
    async def _send(self, message: PromptInput.Sent) -> None:
        if self._activity.hint:
            warn(self, self._activity.hint)
            return
        purpose, text = self._composer.restore(), message.text
        if isinstance(purpose, Correct):
            self._save_correction(purpose.answer, text)
            return
        self._composer.remember(text)
        if isinstance(purpose, Edit):
            await self._live.ask_edited(purpose.turn, text)
        else:
            await self._live.ask(text, purpose.example)

    @work(exclusive=True, group="retry")
    async def action_retry(self) -> None:
        """Send the current prompt again; answers and later turns are kept in their branch."""
        await self._live.retry()

    @work(exclusive=True, group="stop")
    async def action_stop(self) -> None:
        """Stop answering within a token, or at once if nothing was received yet."""
        await self._live.stop()

    async def action_evaluate(self) -> None:
        """Ask what to evaluate on, and compare the models."""
        run = self.run
        if run is None or ADAPTER not in self._choice.own:
            warn(self, with_keys(self, NO_ADAPTER))
            return
        if in_training(run):
            warn(self, with_keys(self, IN_TRAINING))
            return
        # Counting may read a large file; keys wait for the dialog that they are meant for.
        records = await asyncio.to_thread(self._backend.splits, run, self.data)
        if not records:
            folder = self.session.data(run.recipe)
            warn(self, f"{folder}: there is no test, valid or train file to evaluate on.")
            return
        first, second = (self._choice.title(each) for each in self._choice.compared)
        dialog = EvaluationDialog(self._plan, records, f"{second} against {first}")

        def evaluate(plan: EvaluationPlan | None) -> None:
            if plan is not None:
                self._plan = plan
                self._live.evaluate(run, plan)

        self.app.push_screen(dialog, evaluate)

    # Conversations and branches

    def action_pick(self, turns: Literal[-1, 0, 1], columns: Literal[-1, 0, 1]) -> None:
        """Pick the answer that the next key acts on: above, below or beside."""
        if turns:
            self._conversation.pick_turn(turns)
        elif columns:
            self._conversation.pick_column(columns)

    async def action_branch(self, by: int) -> None:
        """Show another branch."""
        await self._live.switch_branch(by)

    @work(exclusive=True, group=DIALOG)
    async def action_reopen(self) -> None:
        """Choose a past conversation and reopen it."""
        found = await asyncio.to_thread(
            lambda: reopen.conversations(history.remembered(self._history_file))
        )
        if not found:
            warn(self, "There are no past conversations yet; ask something first.")
            return
        chosen = await self.app.push_screen_wait(
            ConversationDialog(found, self.clock, self._delete)
        )
        if chosen is not None:
            self._choice.system = chosen.system
            self._show_answerers()
            followed, name_of = self._choice.followed, self._choice.run_name
            await self._begin(reopen.reopened(chosen, followed, name_of))

    def _delete(self, conversation: reopen.Conversation) -> None:
        """Remove a past conversation. Raises `StorageError`."""
        history.delete(self._history_file, conversation.name)

    async def action_clear(self) -> None:
        """Start a new conversation."""
        await self._begin(Dialogue())

    async def _begin(self, dialogue: Dialogue) -> None:
        """Show another conversation, and cancel an edit in this one."""
        if isinstance(self._composer.purpose, Edit):
            self._composer.restore()
        await self._live.begin(dialogue)

    def action_scroll_conversation(self, lines: int) -> None:
        """Scroll the conversation."""
        self._conversation.scroll_relative(y=lines, animate=False)

    def action_thinking(self) -> None:
        """Show or fold the thinking in all answers."""
        self._conversation.toggle_thinking()

    # Saving answers

    def _picked_answer(self) -> PickedAnswer | None:
        answer = picked_answer(
            self._conversation, self._live.dialogue, self._choice.system, self._choice.followed
        )
        if answer is None:
            warn(self, NO_ANSWER)
        return answer

    def action_copy(self) -> None:
        """Copy the answer to the clipboard, also over SSH."""
        if answer := self._picked_answer():
            self.app.copy_to_clipboard(printable(answer.text))
            inform(self, "Answer copied.")

    def action_export(self) -> None:
        """Save the conversation up to the current turn as training records."""
        turns, answerer = picked_branch(self._conversation, self._live.dialogue)
        if answerer is None:
            warn(self, NO_ANSWER)
            return
        file = self.session.folder / EXPORT_NAME
        try:
            notice = export_conversation(file, turns, answerer, self._choice.system)
        except MlxftError as error:
            show_error(self, error)
            return
        if notice is not None:
            inform(self, notice, seconds=SENTENCE_SECONDS)
        else:
            other = answerer.is_other_run
            title = self._choice.title(answerer) if other else answerer.title()
            keys = with_keys(self, "{chat.retry} retries, {chat.previous_turn} picks another.")
            warn(self, f"No complete answer of {title}; {keys}")

    @work(exclusive=True, group=DIALOG)
    async def _save_correction(self, corrected: PickedAnswer, text: str) -> None:
        """Add a corrected answer to the training set; on an error it is in the line again."""
        before = await self._record_before(corrected)
        if before is None:
            self._composer.load_correction(corrected, text)
            return
        conversation = (*before, Message("assistant", text))
        follows = corrected.follows_test_prompt and before == corrected.before
        is_test_prompt = corrected.is_test_prompt or follows
        save = partial(save_correction, answer=corrected.name, is_test_prompt=is_test_prompt)
        try:
            saved = await asyncio.to_thread(save, self.session, self.recipe, conversation)
        except MlxftError as error:
            show_error(self, error)
            self._composer.load_correction(corrected, text)
            return
        if saved.data:
            self.set_parameter("data", saved.data)
        back = shown_key(self, "chat.back", "escape")
        undo = shown_key(self, "chat.undo_correction", "u")
        inform(self, f"{saved.notice} {back}, then {undo}, undoes it.", seconds=SENTENCE_SECONDS)

    async def _record_before(self, corrected: PickedAnswer) -> tuple[Message, ...] | None:
        """What the record holds before the answer; chosen for a later turn, None if cancelled."""
        if not corrected.earlier:
            return corrected.before
        has_test_prompt = corrected.follows_test_prompt
        whole = earlier_answers(corrected.earlier, has_test_prompt=has_test_prompt)
        choices = [
            ("the whole conversation", whole),
            ("this turn alone", "the prompt and your answer, without what was said before"),
        ]
        is_cut = any(end != "stop" for end in corrected.earlier)
        alone = int(is_cut or has_test_prompt)
        dialog = ChoiceDialog("save as a training record", choices, selected=alone)
        chosen = await self.app.push_screen_wait(dialog)
        if chosen is None:
            return None
        return corrected.alone if chosen else corrected.before

    @work(exclusive=True, group="correction")
    async def action_undo_correction(self) -> None:
        """Take the latest correction out of the training set."""
        try:
            notice = await asyncio.to_thread(undo_correction, self.session)
        except MlxftError as error:
            show_error(self, error)
            return
        if notice is None:
            warn(self, "There is no correction to undo.")
        else:
            inform(self, notice, seconds=SENTENCE_SECONDS)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        is_writing = isinstance(self.focused, PromptInput)
        is_busy = bool(self._activity.hint)
        match action:
            case "stop":
                return is_busy
            case "leave":
                return is_writing and not is_busy
            case "write":
                return not is_writing
            case "send":
                return is_writing and parameters == (self._composer.purpose.name,)
            case "example" | "retry" if not self._composer.is_asking:
                return None
            case "retry" | "clear" | "edit" | "correct" | "copy" | "export" | "branch":
                return bool(self.query(TurnView)) and (None if is_busy else True)
            case "evaluate" | "reopen":
                return None if is_busy else True
            case "pick":
                return bool(self.query(TurnView))
            case _:
                return super().check_action(action, parameters)

    def why_disabled(self, action: str) -> str:
        return self._activity.hint or with_keys(self, EDITING)

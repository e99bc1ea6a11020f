"""The chat screen: talk to the base model and to the adapter, also while it trains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from mlxft import recipe as recipes
from mlxft.chat import answerers, corrections, history, reopen
from mlxft.chat.answerers import (
    ADAPTER,
    BASE,
    Comparison,
    Side,
    adapter_step,
    in_training,
    named_anew,
    own_sides,
    titled,
)
from mlxft.chat.dialogue import Dialogue, End, Turn, cost, messages, missed, records, status
from mlxft.chat.examples import ExamplePrompts
from mlxft.chat.reopen import Conversation
from mlxft.chat.thinking import parted
from mlxft.conversation.messages import Message, Sampling
from mlxft.conversation.sampling import stops_text
from mlxft.data.examples import Example
from mlxft.engine.protocol import Answered, Evaluated, ModelOpened, Progressed, TextGenerated
from mlxft.errors import MlxftError
from mlxft.text.printable import printable, printable_line
from mlxft_tui.chat.answerer_line import SideLine, Speaker
from mlxft_tui.chat.answerers import AnswererDialog
from mlxft_tui.chat.backend import ChatBackend
from mlxft_tui.chat.conversations import ConversationDialog
from mlxft_tui.chat.prompt_input import PromptInput
from mlxft_tui.chat.sampling import SamplingDialog
from mlxft_tui.chat.talk_view import TalkView
from mlxft_tui.chat.turn_view import TurnView
from mlxft_tui.frame.messages import ModelReopened, RecipeChanged
from mlxft_tui.frame.run_bar import model_name
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.terminal import garbage
from mlxft_tui.text import evaluation
from mlxft_tui.text.markdown_parts import shown
from mlxft_tui.text.progress import Progress

if TYPE_CHECKING:
    from mlxft.engine.protocol import AnyReply
    from mlxft.runs.followed import FollowedRun
    from mlxft_tui.session import Session

WELCOME = """\
Ask the model something, and see what the training changed.

ctrl+n   takes a prompt from the test set and shows the answer it expects
ctrl+b   lets base and adapter answer side by side
ctrl+t   chooses who of the two answers

esc      leaves the line; then the keys of the bar below work:
o        chooses among checkpoints and other runs, one or two
h        opens a past conversation again
1 to 5   go to the other places; F1 to F5 do so at any time"""

ANSWERING = "An answer is being written; esc stops it."
EVALUATING = "An evaluation is under way; esc leaves it off."

EXPORT_NAME = "chat_export.jsonl"

REST_SECONDS = 1.0
"""From an answer's end, when all of it is painted, until Python looks for garbage."""

Purpose = Literal["ask", "edit", "correct"]
"""What the text in the line is for."""

PURPOSES: dict[Purpose, str] = {
    "edit": "Edit the prompt; enter asks it in a branch of its own, esc leaves it as it was",
    "correct": "Correct the answer; enter saves it as a record of train.jsonl, esc leaves it",
}

UNFINISHED: dict[End, str] = {
    "stop": "",
    "length": "It was cut at max tokens, so its end is missing.  ",
    "cancelled": "It was stopped, so its end is missing.  ",
}
"""What is said of an answer that is corrected, by how it ended."""

TESTED = "Evaluations use its prompt and would count what was trained.  "
"""What is said of an example's answer that is corrected."""


@dataclass(frozen=True)
class Chosen:
    """An answer that a key is about, and what was said before it."""

    said: tuple[Message, ...]
    text: str
    """Without what was thought."""
    tested: bool
    """Whether its prompt is an example that evaluations use."""
    end: End
    """How it ended."""


PARTS = {"evaluating": "1 of 2, the losses: ", "answering": "2 of 2, the answers: "}
"""An evaluation's parts by what the service is doing, each with a share and a time of its own."""


class ChatScreen(AppScreen, keys="chat"):
    """Ask the model with its adapter or without."""

    HELP = """Each side is told its own answers of the conversation and nothing of another's. A
    prompt of the test set is asked without what was said before, and what is asked next goes on
    from there. What is edited, or asked again though it has its answer, is a branch; the one before
    is kept."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", tooltip="Stop the answers within a token", id="back"),
        Binding(
            "escape", "leave", "Leave the line", tooltip="Give the keys to the screen", id="back"
        ),
        Binding(
            "enter", "write(True)", "Write", tooltip="Write a prompt; send an example", id="send"
        ),
        Binding(
            "enter", "send('correct')", "Save", tooltip="Make it a record to train on", id="send"
        ),
        Binding("enter", "send('edit')", "Ask", tooltip="Ask it in a branch of its own", id="send"),
        Binding("i", "write", "Write", show=False, tooltip="Write a prompt"),
        Binding(
            "ctrl+n,n",
            "example(1)",
            "Example",
            tooltip="The next prompt of the test set, asked alone",
            id="next_example",
        ),
        Binding(
            "p",
            "example(-1)",
            "Previous",
            show=False,
            tooltip="The test prompt before",
            id="previous_example",
        ),
        Binding(
            "ctrl+t,t", "switch", "Base/adapter", tooltip="Choose who answers", id="switch_base"
        ),
        Binding(
            "ctrl+b,b", "both", "Side by side", tooltip="Both on one prompt", id="side_by_side"
        ),
        Binding(
            "o",
            "choose",
            "Who answers",
            tooltip="Any one or two: checkpoints, other runs",
            id="answerers",
        ),
        Binding("s", "sampling", "Sampling", tooltip="How the next token is drawn"),
        Binding(
            "ctrl+r,r",
            "retry",
            "Retry",
            tooltip="Ask the prompt again, in a branch if it has its answer",
        ),
        Binding(
            "shift+up,K",
            "pick_turn(-1)",
            "Pick",
            show=False,
            tooltip="Pick an answer above",
            id="previous_turn",
        ),
        Binding(
            "shift+down,J",
            "pick_turn(1)",
            "Pick",
            show=False,
            tooltip="Pick one below",
            id="next_turn",
        ),
        Binding(
            "shift+left,H",
            "pick_column(-1)",
            "Pick",
            show=False,
            tooltip="The one beside",
            id="previous_column",
        ),
        Binding(
            "shift+right,L",
            "pick_column(1)",
            "Pick",
            show=False,
            tooltip="The one beside",
            id="next_column",
        ),
        Binding("e", "edit", "Edit", tooltip="Write the prompt anew, in a branch"),
        Binding(
            "left_square_bracket",
            *("branch(-1)", "Branch"),
            key_display="[",
            show=False,
            tooltip="The way before in which the prompt was written",
            id="previous_branch",
        ),
        Binding(
            "right_square_bracket",
            *("branch(1)", "Branch"),
            key_display="]",
            show=False,
            tooltip="The next way in which it was written",
            id="next_branch",
        ),
        Binding("c", "correct", "Correct", tooltip="Make the answer a record to train on"),
        Binding("y", "copy", "Copy", tooltip="Copy the answer"),
        Binding(
            "g",
            "unfold",
            "Thoughts",
            show=False,
            tooltip="Show what the model thought",
            id="thoughts",
        ),
        Binding("v", "evaluate", "Evaluate", tooltip="Base against adapter on the test set"),
        Binding("x", "export", "Export", tooltip="Save the conversation as records to train on"),
        Binding("h", "past", "Past", tooltip="Open a past conversation again", id="conversations"),
        Binding("ctrl+l", "clear", "Clear", tooltip="Begin a new conversation"),
        Binding("ctrl+up,k", "scroll_talk(-1)", "Scroll up", show=False, id="scroll_up"),
        Binding("ctrl+down,j", "scroll_talk(1)", "Scroll down", show=False, id="scroll_down"),
    ]
    AUTO_FOCUS = "PromptInput"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._partner = ChatBackend(session)
        self._progress = Progress()
        self._dialogue = Dialogue()
        self._comparison = Comparison()
        self._named = ""
        """The run by which the dialogue's adapter and checkpoints are meant."""
        self._doing = ""
        """What is going on, in a sentence with the way out; empty for nothing."""
        self._waits = False
        """Whether nothing has come yet of what was asked."""
        self._breaks_off = False
        self._unfolded = False
        self._purpose: Purpose = "ask"
        self._about: Turn | None = None
        """The turn that is edited."""
        self._corrected: Chosen | None = None
        """The answer that is in the line to be corrected."""
        self._draft = ""
        """What was being written when something else was put into the line."""
        self._sampling: Sampling | None = None
        self._system = ""
        self._example: Example | None = None
        self._examples: ExamplePrompts | None = None

    def compose_body(self) -> ComposeResult:
        yield SideLine("sides")
        yield TalkView(WELCOME)
        yield Static(id="expected")
        yield PromptInput("Ask something; enter sends, ctrl+j begins a new line")

    def on_mount(self) -> None:
        self._recall()

    @work(exclusive=True, group="recall")
    async def _recall(self) -> None:
        """Give the line what was asked before."""
        before = await asyncio.to_thread(self._prompts)
        line = self.query_one(PromptInput)
        line.earlier = [*before, *line.earlier]

    def _prompts(self) -> list[str]:
        """What was asked in this project, each prompt where it was asked last."""
        prompts = [said.prompt for said in history.remembered(self._history_file)]
        return list(dict.fromkeys(reversed(prompts)))[::-1]

    @property
    def _history_file(self) -> Path:
        return self.session.adapters / history.HISTORY_NAME

    def on_screen_suspend(self) -> None:
        self._restore()

    @work(exclusive=True, group="restore")
    async def _restore(self) -> None:
        try:
            await self._partner.restore(self.recipe)
        except MlxftError as error:
            self._complain(str(error))

    # Who answers, and how

    def watch_run(self) -> None:
        self._name_old_run()
        self._show_sides()

    def _name_old_run(self) -> None:
        """Once another run is followed, the answers of the one before say whose they are."""
        if self._doing or self._followed in ("", self._named):
            return
        before, self._named = self._named, self._followed
        anew = partial(named_anew, run=before, instead=self._named)
        self._dialogue.name_anew(anew)
        for view in self._talk.turns:
            view.name_anew(anew)

    def watch_recipe(self) -> None:
        self._show_sides()

    def watch_model(self) -> None:
        self._show_sides()

    def _asked_sides(self) -> tuple[Side, ...]:
        """Who answers the next prompt, in the order of the columns."""
        return self._comparison.asked(own_sides(self.run))

    def _show_sides(self) -> None:
        asked, pair = self._asked_sides(), self._comparison.present(own_sides(self.run))
        shown = pair if len(pair) > 1 else (*pair, ADAPTER)
        speakers = tuple(Speaker(_kind(side), self._who(side), side in asked) for side in shown)
        self.query_one(SideLine).show(speakers, self._manner())

    def _who(self, side: Side) -> str:
        """Who a side is at this moment; empty if it isn't there."""
        run, step = self.run, answerers.step_of(side)
        if side == BASE:
            return model_name(run.recipe.model if run else self.recipe.model)
        if answerers.run_of(side):
            return titled(side)
        if run is None or side not in own_sides(run):
            return ""
        if step is not None:
            return f"step {step}"
        name = printable_line(run.directory.name)
        return f"{name}, {'in training, ' if in_training(run) else ''}step {adapter_step(run)}"

    def _manner(self) -> str:
        """How tokens are drawn, where it isn't the plainest way, and what the model lacks."""
        sampling, parts = self.sampling, []
        if sampling.temperature:
            parts.append(f"temperature {sampling.temperature:g}")
        if self._system:
            parts.append("system prompt")
        if self._model is not None and not self._model.has_chat_template:
            parts.append("no chat template: text goes on as it is")
        if sampling.max_tokens != Sampling().max_tokens:
            parts.append(f"max {sampling.max_tokens} tokens")
        if sampling.stop:
            parts.append(f"stops at {printable_line(stops_text(sampling.stop))}")
        return "  ".join(parts)

    @property
    def _model(self) -> ModelOpened | None:
        """The model that answers, as far as it is known."""
        return self._partner.model(self.run, self.recipe, self.model)

    @property
    def sampling(self) -> Sampling:
        """How the next answer is drawn: as chosen, else as the model's makers advise."""
        if self._sampling is not None:
            return self._sampling
        return self._advised

    @property
    def _advised(self) -> Sampling:
        return self._model.sampling if self._model else Sampling()

    @work(exclusive=True, group="sheet")
    async def action_sampling(self) -> None:
        """Open the sheet of the sampling."""
        sheet = SamplingDialog(self.sampling, self._system, self._advised)
        kept = await self.app.push_screen_wait(sheet)
        if kept is not None:
            self._sampling, self._system = kept
            self._show_sides()

    def action_switch(self) -> None:
        """Let the other side answer."""
        self._ask_of("left" if self._comparison.asks == "right" else "right")

    def action_both(self) -> None:
        """Let both sides answer, or one again."""
        self._ask_of("right" if self._comparison.asks == "both" else "both")

    def _ask_of(self, asks: Literal["left", "right", "both"]) -> None:
        if len(self._comparison.present(own_sides(self.run))) < 2:
            self._no_adapter()
            return
        self._comparison = replace(self._comparison, asks=asks)
        self._show_sides()

    @work(exclusive=True, group="sheet")
    async def action_choose(self) -> None:
        """Choose who answers from all who can."""
        there = own_sides(self.run) + await asyncio.to_thread(self._other_sides)
        named = [(side, f"{_kind(side)} {self._who(side)}") for side in there]
        marked = [side for side in self._asked_sides() if side in there] or [BASE]
        chosen = await self.app.push_screen_wait(AnswererDialog(named, marked))
        if chosen is not None:
            self._comparison = self._comparison.choosing(*chosen)
            self._show_sides()

    def _other_sides(self) -> tuple[Side, ...]:
        """Who can answer of the project's other runs of the same model."""
        path = self.session.path
        model = path(self.run.recipe.model if self.run else self.recipe.model).resolve()
        runs = sorted(self.session.runs(), key=lambda run: run.name)
        found = answerers.other_sides(
            runs, self._followed, lambda each: path(each).resolve() == model
        )
        return tuple(found)

    @property
    def _followed(self) -> str:
        """The name of the followed run; empty without one."""
        return self.run.directory.name if self.run else ""

    def _no_adapter(self) -> None:
        self._complain("There is no adapter yet; train one (3) or choose a run (5).")

    # Prompts

    def action_example(self, by: int) -> None:
        """Put another prompt of the test set into the line, and show what it expects.

        Outside of the line the keys stay there, so that one can walk on.
        """
        walks = not isinstance(self.focused, PromptInput)
        recipe = self.run.recipe if self.run else self.recipe
        folder = self.session.data(recipe)
        if self._examples is None or self._examples.place != (folder, recipe.columns):
            self._examples = ExamplePrompts(folder, recipe.columns)
        example = self._examples.step(by)
        if example is None:
            self._examples = None
            self._complain(f"{folder}: neither test.jsonl nor valid.jsonl has a prompt.")
            return
        self._put_into_line(example.prompt, "ask")
        if walks:
            self._talk.focus()
        self._example = example
        expects = Content.assemble((f"{example.place} expects  ", "dim"))
        self._show_expected(expects.append(printable_line(example.expected)))

    def action_edit(self) -> None:
        """Put the picked prompt, or the last one, into the line, to be asked in a branch."""
        if view := self._view():
            self._put_into_line(view.turn.prompt, "edit")
            self._about = view.turn

    def action_correct(self) -> None:
        """Put the picked answer, or the last one, into the line, to be trained on once right."""
        if answered := self._answer():
            self._let_correct(answered, answered.text)

    def _let_correct(self, answer: Chosen, text: str) -> None:
        tested = TESTED if answer.tested else ""
        self._put_into_line(text, "correct", UNFINISHED[answer.end] + tested)
        self._corrected = answer

    def _put_into_line(self, text: str, purpose: Purpose, warning: str = "") -> None:
        line = self.query_one(PromptInput)
        if self._purpose == "ask":
            self._draft = line.own or self._draft
        line.put(text)
        line.focus()
        self._purpose = purpose
        told = Content.assemble((warning, "$warning"), (PURPOSES.get(purpose, ""), "dim"))
        self._show_expected(told)
        self.refresh_bindings()

    def _show_expected(self, text: Content) -> None:
        expected = self.query_one("#expected", Static)
        expected.update(text)
        expected.display = bool(text.cell_length)

    @on(PromptInput.Sent)
    async def _sent(self, message: PromptInput.Sent) -> None:
        if self._doing:
            self._complain(self._doing)
            return
        purpose = self._purpose
        self._restore_draft()
        line = self.query_one(PromptInput)
        if purpose == "correct" and self._corrected is not None:
            self._learn(self._corrected, message.text)
            return
        line.earlier = [each for each in line.earlier if each != message.text] + [message.text]
        if purpose == "edit" and self._about is not None:
            if self._about not in self._dialogue.turns:
                self._dialogue.show(self._about)
                await self._show_dialogue()
            self._tell_stand_in([each for each in self._talk.turns if each.turn is self._about])
            instead = self._about.written_anew(message.text)
            self._dialogue.edit(self._about, instead)
            self._ask(await self._show_branch(instead))
        else:
            self._tell_stand_in(self._talk.turns[-1:])
            turn = self._turn(message.text)
            self._dialogue.add(turn)
            self._ask(await self._show_turn(turn))

    def _restore_draft(self) -> None:
        """Have the line again as it was before something else was put into it."""
        self._purpose = "ask"
        self.query_one(PromptInput).restore(self._draft)
        self._draft = ""
        self._show_expected(Content())
        self.refresh_bindings()

    async def _show_branch(self, turn: Turn) -> TurnView:
        """Show a new turn in place of another one and of all after that."""
        for view in self._talk.turns:
            if view.turn not in self._dialogue.turns:
                await view.remove()
        return await self._show_turn(turn)

    def _turn(self, prompt: str) -> Turn:
        """A new turn; it is the example's if its prompt was left as it was."""
        example, self._example = self._example, None
        if example is not None and example.prompt != prompt:
            example = None
        return Turn(prompt, example)

    async def _show_turn(self, turn: Turn) -> TurnView:
        view = self._new_view(turn, self._titles())
        self._talk.pick(None)
        await self._talk.add(view)
        return view

    def _new_view(self, turn: Turn, asked: Sequence[tuple[Side, str]]) -> TurnView:
        apart = bool(turn.alone) and self._dialogue.before(turn) is not None
        return TurnView(turn, asked, self._dialogue.branches(turn), apart=apart)

    @property
    def _talk(self) -> TalkView:
        return self.query_one(TalkView)

    def action_pick_turn(self, by: Literal[-1, 1]) -> None:
        """Pick an answer of the turn before or after, for the next key."""
        self._talk.pick_turn(by)

    def action_pick_column(self, by: Literal[-1, 1]) -> None:
        """Pick the answer beside."""
        self._talk.pick_column(by)

    def _view(self) -> TurnView | None:
        """The turn of the picked answer, else the last one."""
        turns, picked = self._talk.turns, self._talk.picked
        return next(
            (view for view in turns if picked in view.answers), turns[-1] if turns else None
        )

    async def action_branch(self, by: int) -> None:
        """Show another way in which the picked prompt was written, or the last that has several."""
        dialogue, view = self._dialogue, self._view()
        several = [turn for turn in dialogue.turns if dialogue.branches(turn)[1] > 1]
        if not several or view is None:
            return
        dialogue.switch(view.turn if view.turn in several else several[-1], by)
        await self._show_dialogue()

    async def _show_dialogue(self) -> None:
        """Show the branch in view from its beginning."""
        views = [self._new_view(turn, turn.answered) for turn in self._dialogue.turns]
        await self._talk.show(views)
        for view in views:
            self._remark(view)
            for side, text in view.turn.answers.items():
                view.answer(side).finish(status(view.turn, side), text)
        self.refresh_bindings()
        self.call_after_refresh(self._settle, anew=True)

    def _settle(self, *, anew: bool = False) -> None:
        if not self.app.is_headless:
            garbage.settle(full=anew)

    def action_retry(self) -> None:
        """Ask the picked prompt, or the last one, again, of those who are chosen now."""
        if view := self._view():
            self._ask_again(view)

    @work(exclusive=True, group="retry")
    async def _ask_again(self, view: TurnView) -> None:
        """An answer that came to its end, and what follows a prompt, are kept in their branch."""
        self._tell_stand_in([view])
        if view.turn is not self._dialogue.turns[-1] or view.turn.is_answered:
            self._ask(await self._show_branch(self._dialogue.repeat(view.turn)))
            return
        view.turn.attempts += 1
        self._talk.pick(None)
        view.ask_again(self._titles())
        self._ask(view)

    def _tell_stand_in(self, before: Sequence[TurnView]) -> None:
        """Say who answers where one that was chosen, and asked before, isn't there any more."""
        missing = set(self._comparison.wanted) - set(self._asked_sides())
        asked = [each for view in before for each in view.asked if each[0] in missing]
        if asked:
            who = " and ".join(title for _, title in self._titles())
            self._complain(
                f"{asked[-1][1]} isn't there any more, as nothing of it was saved: {who} answers."
            )

    def _titles(self) -> list[tuple[Side, str]]:
        return [(side, self._titled(side)) for side in self._asked_sides()]

    def _titled(self, side: Side) -> str:
        return titled(side, adapter_step(self.run) if self.run else 0)

    # Answers

    @work(exclusive=True, group="answer")
    async def _ask(self, view: TurnView) -> None:
        """Have the sides answer the turn, at the same time where one engine has them all."""
        self._set_doing(ANSWERING)
        run = self.run
        asked = [side for side, _ in view.asked]
        turns = self._dialogue.turns
        before = turns[: turns.index(view.turn) + 1]
        self._remark(view)
        told = [(side, messages(before, side, self._system)) for side in asked]
        waits = "waits for the end of the step" if in_training(run) else "wakes the service"
        for side in asked:
            view.answer(side).unfold(self._unfolded)
            view.answer(side).say(waits)
        view.turn.titles.update(view.asked)
        waiting = dict(told)
        sampling = _retried(self.sampling, view.turn.attempts)
        try:
            async for opening in self._partner.opening(run, self.recipe):
                self._opened(run, opening)
                if isinstance(opening, Progressed):
                    doing = self._progress.describe(opening.progress, time.monotonic())
                    for side in asked:
                        view.answer(side).say(f"{doing} {opening.progress.note}".strip())
            self._show_sides()
            sampling = _retried(self.sampling, view.turn.attempts)
            async for at, reply in self._partner.answers(told, sampling, run):
                side = asked[at]
                answer_view = view.answer(side)
                match reply:
                    case Progressed(progress=progress):
                        doing = self._progress.describe(progress, time.monotonic())
                        answer_view.say(f"{doing} {progress.note}".strip())
                    case TextGenerated(text=text, step=step):
                        self._waits = False
                        self._entitle(view, side, step)
                        answer_view.say("esc stops")
                        answer_view.write(text)
                    case Answered(answer=answer, step=step):
                        self._waits = False
                        del waiting[side]
                        view.turn.take(side, answer.text, answer.finish_reason)
                        self._entitle(view, side, step)
                        view.turn.costs[side] = cost(answer)
                        answer_view.finish(status(view.turn, side), answer.text)
                        self._remember(view.turn, side, told[at][1], sampling, run)
        except MlxftError as error:
            self._keep_begun(view, waiting, sampling, run)
            for side in waiting:
                view.answer(side).fail(f"{error} ctrl+r asks again.")
        except asyncio.CancelledError:
            self._keep_begun(view, waiting, sampling, run)
            for side in waiting if self._breaks_off else ():
                view.answer(side).finish("stopped  ctrl+r asks again")
            raise
        finally:
            self._set_doing("")
            self.set_timer(REST_SECONDS, self._settle)

    def _remark(self, view: TurnView) -> None:
        """Say who was not told all that is to be read above."""
        turns = self._dialogue.turns
        before = turns[: turns.index(view.turn) + 1]
        for side, _ in view.asked:
            view.answer(side).remark(_untold(missed(before, side)))

    def _opened(self, run: FollowedRun | None, reply: AnyReply) -> None:
        """Tell the application, which may wait for the same model."""
        if isinstance(reply, ModelOpened):
            self.post_message(ModelReopened(run.recipe if run else self.recipe, reply))

    def _entitle(self, view: TurnView, side: Side, step: int | None) -> None:
        """Name the step whose weights answer: the run may be further than its journal was read."""
        title = titled(side, step)
        if side == ADAPTER and step is not None and view.turn.titles[side] != title:
            view.turn.titles[side] = title
            view.answer(side).entitle(title)

    def _keep_begun(
        self,
        view: TurnView,
        waiting: Mapping[Side, Sequence[Message]],
        sampling: Sampling,
        run: FollowedRun | None,
    ) -> None:
        """Keep of answers that won't come to their end what has come; the prompt in any case."""
        for side, asked in waiting.items():
            view.turn.take(side, view.answer(side).written, "cancelled")
            self._remember(view.turn, side, asked, sampling, run)

    def _remember(
        self,
        turn: Turn,
        side: Side,
        asked: Sequence[Message],
        sampling: Sampling,
        run: FollowedRun | None,
    ) -> None:
        """Keep what was said in the project's history."""
        said = reopen.said(
            self._dialogue,
            turn,
            side,
            asked,
            followed=run.directory.name if run else "",
            model=run.recipe.model if run else self.recipe.model,
            sampling=sampling,
            time=self.clock(),
        )
        try:
            history.remember(self._history_file, said)
        except MlxftError as error:
            self._complain(str(error))

    @work(exclusive=True, group="sheet")
    async def action_past(self) -> None:
        """Choose a past conversation of the project and open it again."""
        found = await asyncio.to_thread(self._conversations)
        if not found:
            self._complain("There is no past conversation yet; ask something first.")
            return
        chosen = await self.app.push_screen_wait(ConversationDialog(found, self.clock()))
        if chosen is not None:
            self._system = chosen.system
            self._show_sides()
            await self._begin(reopen.reopened(chosen, self._followed))

    def _conversations(self) -> list[Conversation]:
        return reopen.conversations(history.remembered(self._history_file))

    def _set_doing(self, doing: str) -> None:
        self._doing, self._waits = doing, bool(doing)
        self._breaks_off = False
        if not doing:
            self._name_old_run()
        self.refresh_bindings()

    def action_stop(self) -> None:
        """Stop the answers within a token; what hasn't begun, as while a model is opened, now."""
        self._stop()

    @work(exclusive=True, group="stop")
    async def _stop(self) -> None:
        try:
            await self._partner.stop()
        except MlxftError as error:
            self._complain(str(error))
        if self._waits:
            self._breaks_off = True
            self.workers.cancel_group(self, "answer")

    # What becomes of answers

    def _answer(self) -> Chosen | None:
        """The picked answer; else the last one, the adapter's before another's."""
        view, picked = self._view(), self._talk.picked
        answers = view.turn.said if view else {}
        side = picked.side if picked is not None else _first(answers)
        if view is None or side not in answers:
            self._complain("There is no answer yet; ask something first.")
            return None
        turns = self._dialogue.turns
        said = messages(turns[: turns.index(view.turn) + 1], side, self._system)
        tested = view.turn.example is not None
        return Chosen(said, parted(answers[side]).text, tested, view.turn.ends.get(side, "stop"))

    def action_copy(self) -> None:
        """Copy the answer to the clipboard, also through SSH."""
        if answered := self._answer():
            self.app.copy_to_clipboard(printable(answered.text))
            self.notify("The answer is copied.", timeout=3)

    def action_unfold(self) -> None:
        """Show what the model thought, or only that it did."""
        self._unfolded = not self._unfolded
        for view in self._talk.turns:
            view.unfold(self._unfolded)

    def action_export(self) -> None:
        """Save the conversation up to the answer, each part said together as a record."""
        turns, side = self._exported()
        found, left_out = records(turns, side, self._system)
        if not found:
            self._complain(
                f"No answer of {titled(side)} came to its end; ctrl+r asks again, ⇧↑ picks another."
            )
            return
        file = self.session.folder / EXPORT_NAME
        try:
            history.export(file, found)
        except MlxftError as error:
            self._complain(str(error))
        else:
            self._tell(f"{_added(len(found), file)}{_left_out(left_out, side)}.")

    def _exported(self) -> tuple[Sequence[Turn], Side]:
        """The turns up to the picked one, and whose answers are meant."""
        view, picked, turns = self._view(), self._talk.picked, self._dialogue.turns
        if view is not None:
            turns = turns[: turns.index(view.turn) + 1]
        answers = next((turn.said for turn in reversed(turns) if turn.said), {})
        return turns, picked.side if picked is not None else _first(answers)

    @work(exclusive=True, group="learn")
    async def _learn(self, corrected: Chosen, text: str) -> None:
        """Make a conversation with a corrected answer a record of the recipe's training set.

        What can't be saved is in the line again.
        """
        said = (*corrected.said, Message("assistant", text))
        before, folder = self.session.data(self.recipe), self.session.folder
        try:
            data = await asyncio.to_thread(corrections.own_data, before, folder)
            learnt = await asyncio.to_thread(corrections.learn, data, self.recipe.columns, said)
            records = await asyncio.to_thread(corrections.records_in, learnt.file)
        except MlxftError as error:
            self._complain(str(error))
            self._let_correct(corrected, text)
            return
        copy = str(data.relative_to(folder)) if data != before else ""
        if copy:
            self._train_on(copy)
        self._tell(_saved(learnt, records, copy, tested=corrected.tested))

    def _train_on(self, data: str) -> None:
        """Have the recipe train on these data from now on, also once the app has been left."""
        recipe = recipes.replace(self.recipe, "data", data)
        self.post_message(RecipeChanged(recipe))
        try:
            self.session.save_columns(recipe)
        except MlxftError as error:
            self._complain(str(error))

    def _tell(self, text: str) -> None:
        self.notify(printable_line(text), timeout=8, markup=False)

    # Evaluation

    def action_evaluate(self) -> None:
        """Compare base and adapter on the test set."""
        if self.run is None or ADAPTER not in own_sides(self.run):
            self._no_adapter()
        elif in_training(self.run):
            self._complain(
                "The run is in training, and an evaluation would hold it up for minutes: press v "
                "once it has ended, or ask single prompts of the test set (n) now."
            )
        else:
            self._evaluate()

    @work(exclusive=True, group="answer")
    async def _evaluate(self) -> None:
        assert self.run is not None
        self._set_doing(EVALUATING)
        report = Static("", markup=False, classes="evaluation")
        await self._talk.add(report)
        answerers = self._comparison.present(own_sides(self.run))
        answerers = answerers if len(answerers) > 1 else (BASE, ADAPTER)
        try:
            async for reply in self._partner.opening(self.run, self.recipe):
                self._opened(self.run, reply)
                self._report(report, reply)
            self._waits = False
            named = [(side, self._titled(side)) for side in answerers]
            async for reply in self._partner.evaluation(self.run, named):
                self._report(report, reply)
        except MlxftError as error:
            report.update(Content(printable(f"{error} v evaluates again.")))
        except asyncio.CancelledError:
            if self._breaks_off:
                report.update(Content("The evaluation was left off. v evaluates again."))
            raise
        finally:
            self._set_doing("")

    def _report(self, report: Static, reply: AnyReply) -> None:
        match reply:
            case Progressed(progress=progress):
                doing = self._progress.describe(progress, time.monotonic())
                report.update(Content(f"{PARTS.get(progress.stage, '')}{doing}; esc leaves it off"))
            case Evaluated(evaluation=found):
                report.update(Content(shown("\n".join(evaluation.told(found)))))

    # Keys and focus

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        writing = isinstance(self.focused, PromptInput)
        match action:
            case "stop":
                return bool(self._doing)
            case "leave":
                return writing and not self._doing
            case "write":
                return not writing
            case "send":
                return writing and parameters == (self._purpose,)
            case "example" | "retry" if self._purpose != "ask":
                # What is being written anew must not give way to another prompt.
                return None
            case "retry" | "clear" | "edit" | "correct" | "copy" | "export" | "branch":
                return bool(self.query(TurnView)) and (None if self._doing else True)
            case "evaluate" | "past":
                return None if self._doing else True
            case "pick_turn" | "pick_column":
                return bool(self.query(TurnView))
            case _:
                return super().check_action(action, parameters)

    def why_disabled(self, action: str) -> str:
        return self._doing or "Something is being written anew; enter saves it, esc leaves it."

    def action_leave(self) -> None:
        """Give the keys to the screen; what was being edited is left as it was."""
        if self._purpose != "ask":
            self._restore_draft()
        self._talk.focus()

    def action_write(self, sends: bool = False) -> None:
        """Go to the line; the example that was put into it is sent if it `sends`."""
        line, example = self.query_one(PromptInput), self._example
        if sends and example is not None and line.meant == example.prompt:
            line.post_message(PromptInput.Sent(line.meant))
        else:
            line.focus()

    def action_send(self, purpose: Purpose) -> None:
        """Send the line, whatever it is for; in the line itself enter does so."""
        self.query_one(PromptInput).send()

    async def action_clear(self) -> None:
        """Begin a new conversation."""
        await self._begin(Dialogue())

    async def _begin(self, dialogue: Dialogue) -> None:
        """Go on with another conversation; what was being edited in this one is left."""
        if self._purpose == "edit":
            self._restore_draft()
        self._dialogue = dialogue
        await self._show_dialogue()

    def action_scroll_talk(self, lines: int) -> None:
        """Scroll the conversation."""
        self._talk.scroll_relative(y=lines, animate=False)

    def _complain(self, problem: str) -> None:
        self.notify(printable_line(problem), severity="warning", timeout=8, markup=False)


def _first(answers: Collection[Side]) -> Side:
    """Whose answer is meant where none is picked: the adapter's before another's."""
    return ADAPTER if ADAPTER in answers else next(iter(answers), "")


def _saved(learnt: corrections.Learnt, records: int, copy: str, *, tested: bool) -> str:
    """Where a correction went, into which copy of the recipe's data, and what to mind of it."""
    parts = [f"Added to {learnt.file}, {records} records by now"]
    if copy:
        parts.append(f"the recipe trains on {copy}, a copy of its data, from now on")
    if learnt.instead_of:
        parts.append(f"it holds all of {learnt.instead_of.name}, and is trained on instead")
    if tested:
        parts.append(
            "its prompt is an example that evaluations use, so remove it there, or they will count "
            "what was trained"
        )
    if learnt.beside:
        parts.append(
            f"mlxft-tui trains messages beside {learnt.beside}, but mlx_lm can't train this file"
        )
    return f"{'; '.join(parts)}."


def _added(records: int, file: Path) -> str:
    """That so many records were exported, and why there are several."""
    if records == 1:
        return f"Added 1 record to {file}"
    why = "as a test prompt is asked without what was said before"
    return f"Added {records} records to {file}, {why}"


def _left_out(prompts: int, side: Side) -> str:
    """That so many prompts are no part of an export of what a side said."""
    what = "1 prompt" if prompts == 1 else f"{prompts} prompts"
    who = titled(side)
    return f"; left out: {what} that {who} didn't answer to the end" if prompts else ""


def _kind(side: Side) -> str:
    """What a side is, in a word."""
    if side in (BASE, ADAPTER):
        return side
    return "run" if answerers.run_of(side) else "checkpoint"


def _untold(prompts: int) -> str:
    """That a side knows nothing of so many prompts before, which it has not answered itself."""
    what = "1 prompt" if prompts == 1 else f"{prompts} prompts"
    return f"without {what} it didn't answer" if prompts else ""


def _retried(sampling: Sampling, attempts: int) -> Sampling:
    """The sampling of a retry: another seed, since the same one would give the same answer."""
    return msgspec.structs.replace(sampling, seed=sampling.seed + attempts)

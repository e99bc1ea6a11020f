"""The chat screen: talk to the base model and to the adapter, also while it trains."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from mlxft.conversation import Answer
from mlxft.data.printable import printable, printable_line
from mlxft.engine.protocol import Answered, Progressed, TextGenerated
from mlxft.errors import MlxftError
from mlxft_tui.dialogue import Example, Side, Turn, cost, examples, messages
from mlxft_tui.partner import Partner, in_training, sides
from mlxft_tui.progress import Progress
from mlxft_tui.screens.place import Place
from mlxft_tui.widgets.prompt_input import PromptInput
from mlxft_tui.widgets.run_bar import model_name
from mlxft_tui.widgets.side_line import SideLine, SideState
from mlxft_tui.widgets.turn_view import TurnView

if TYPE_CHECKING:
    from mlxft_tui.session import Session

WELCOME = """\
Ask the model something, and see what the training changed.

ctrl+n   takes a prompt from the test set and shows the answer it expects
ctrl+b   lets base and adapter answer side by side
ctrl+t   chooses who answers

esc leaves the line; then every key of the bar below works, and 1 to 5 go to the other places.
F1 to F5 do so at any time."""


class ChatScreen(Place):
    """Ask the model with its adapter or without."""

    CSS_PATH = "chat.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", tooltip="Stop the answer within a token"),
        Binding("escape", "leave", "Leave the line", tooltip="Give the keys to the screen"),
        Binding("enter,i", "write", "Write", tooltip="Write a prompt"),
        Binding("ctrl+n,n", "example", "Example", tooltip="Take the next prompt of the test set"),
        Binding("ctrl+t,t", "switch", "Base/adapter", tooltip="Choose who answers"),
        Binding("ctrl+b,b", "both", "Side by side", tooltip="Base and adapter on one prompt"),
        Binding("ctrl+r,r", "retry", "Retry", tooltip="Ask the last prompt again"),
        Binding("ctrl+l", "clear", "Clear", tooltip="Begin a new conversation"),
        Binding("ctrl+up,k", "scroll_talk(-1)", "Scroll up", show=False),
        Binding("ctrl+down,j", "scroll_talk(1)", "Scroll down", show=False),
    ]
    AUTO_FOCUS = "PromptInput"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._partner = Partner(session)
        self._progress = Progress()
        self._chosen: Side = "adapter"
        self._both = False
        self._busy = False
        self._stopped = False
        self._example: Example | None = None
        self._examples: tuple[Path, Iterator[Example]] | None = None

    def compose_body(self) -> ComposeResult:
        yield SideLine("sides")
        with VerticalScroll(id="talk"):
            yield Static(WELCOME, id="welcome", markup=False)
        yield Static(id="expected")
        yield PromptInput("Ask something; enter sends, ctrl+j begins a new line")

    def on_mount(self) -> None:
        self.query_one("#talk", VerticalScroll).anchor()

    def on_screen_suspend(self) -> None:
        self._restore()

    @work(exclusive=True, group="restore")
    async def _restore(self) -> None:
        try:
            await self._partner.restore(self.recipe)
        except MlxftError as error:
            self._complain(str(error))

    # Who answers

    def watch_run(self) -> None:
        self._show_sides()

    def watch_recipe(self) -> None:
        self._show_sides()

    def _asked_sides(self) -> tuple[Side, ...]:
        """Who answers the next prompt, in this order."""
        there = sides(self.run)
        if self._both and "adapter" in there:
            return ("base", "adapter")
        return (self._chosen,) if self._chosen in there else there[:1]

    def _show_sides(self) -> None:
        state = SideState(self._title("adapter"), self._title("base"), self._asked_sides())
        self.query_one(SideLine).show(state)

    def _title(self, side: Side) -> str:
        """Who a side is at this moment; empty if it isn't there."""
        run = self.run
        if side == "base":
            return model_name(run.recipe.model if run else self.recipe.model)
        if run is None or "adapter" not in sides(run):
            return ""
        name = printable_line(run.directory.name)
        return f"{name}, {'in training, ' if in_training(run) else ''}step {run.view.step}"

    def action_switch(self) -> None:
        """Let the other side answer."""
        if "adapter" not in sides(self.run):
            self._no_adapter()
            return
        self._both = False
        self._chosen = "base" if self._chosen == "adapter" else "adapter"
        self._show_sides()

    def action_both(self) -> None:
        """Let both sides answer, or one again."""
        if "adapter" not in sides(self.run):
            self._no_adapter()
            return
        self._both = not self._both
        self._show_sides()

    def _no_adapter(self) -> None:
        self._complain("There is no adapter yet; train one (3) or choose a run (5).")

    # Prompts

    def action_example(self) -> None:
        """Put the next prompt of the test set into the line, and show what it expects."""
        recipe = self.run.recipe if self.run else self.recipe
        folder = self.session.path(recipe.data)
        if self._examples is None or self._examples[0] != folder:
            self._examples = (folder, examples(folder))
        example = next(self._examples[1], None)
        if example is None:
            again = examples(folder)
            self._examples, example = (folder, again), next(again, None)
        if example is None:
            self._complain(f"{folder}: neither test.jsonl nor valid.jsonl has a prompt.")
            return
        self._example = example
        line = self.query_one(PromptInput)
        line.load_text(printable(example.prompt))
        line.move_cursor(line.document.end)
        line.focus()
        expects = Content.assemble((f"{example.place} expects  ", "dim"))
        self._show_expected(expects.append(printable_line(example.expected)))

    def _show_expected(self, text: Content) -> None:
        expected = self.query_one("#expected", Static)
        expected.update(text)
        expected.display = bool(text.cell_length)

    @on(PromptInput.Sent)
    async def _sent(self, message: PromptInput.Sent) -> None:
        if self._busy:
            self._complain("An answer is being written; esc stops it.")
            return
        example, self._example = self._example, None
        if example is not None and printable(example.prompt) != message.text:
            example = None
        self.query_one(PromptInput).clear()
        self._show_expected(Content())
        asked = self._titles()
        view = TurnView(Turn(message.text, example), asked)
        talk = self.query_one("#talk", VerticalScroll)
        self.query_one("#welcome").display = False
        await talk.mount(view)
        talk.anchor()
        self._ask(view, [side for side, _ in asked])

    def action_retry(self) -> None:
        """Ask the last prompt again, of those who are chosen now."""
        turns = list(self.query(TurnView))
        if turns and not self._busy:
            self._ask_again(turns[-1])

    @work(exclusive=True, group="retry")
    async def _ask_again(self, view: TurnView) -> None:
        asked = self._titles()
        await view.ask_again(asked)
        self._ask(view, [side for side, _ in asked])

    def _titles(self) -> list[tuple[Side, str]]:
        step = self.run.view.step if self.run else 0
        titles: dict[Side, str] = {"base": "base", "adapter": _adapter_title(step)}
        return [(side, titles[side]) for side in self._asked_sides()]

    # Answers

    @work(exclusive=True, group="answer")
    async def _ask(self, view: TurnView, asked: Sequence[Side]) -> None:
        """Have one side after the other answer the turn."""
        self._is_busy(True)
        for side in asked[1:]:
            view.answer(side).say("waits its turn")
        try:
            for side in asked:
                if self._stopped:
                    await view.answer(side).finish("not asked")
                else:
                    await self._answer(view, side)
        finally:
            self._is_busy(False)

    async def _answer(self, view: TurnView, side: Side) -> None:
        answer_view = view.answer(side)
        turns = [each.turn for each in self.query(TurnView)]
        asked = messages(turns[: turns.index(view.turn) + 1], side)
        answer_view.say(
            "waits for the end of the step" if in_training(self.run) else "wakes the model service"
        )
        try:
            async for reply in self._partner.answer(side, asked, self.run, self.recipe):
                match reply:
                    case Progressed(progress=progress):
                        doing = self._progress.describe(progress, time.monotonic())
                        answer_view.say(f"{doing} {progress.note}".strip())
                    case TextGenerated(text=text):
                        answer_view.say("esc stops")
                        answer_view.write(text)
                    case Answered(answer=answer, step=step):
                        view.turn.answers[side] = answer.text
                        if side == "adapter" and step is not None:
                            answer_view.entitle(_adapter_title(step))
                        status = _verdict(view.turn, answer) + cost(answer)
                        await answer_view.finish(status, answer.text)
        except MlxftError as error:
            await answer_view.fail(f"{error} ctrl+r asks again.")

    def _is_busy(self, busy: bool) -> None:
        self._busy, self._stopped = busy, False
        self.refresh_bindings()

    def action_stop(self) -> None:
        """Stop the answer within a token."""
        self._stopped = True
        self._stop()

    @work(exclusive=True, group="stop")
    async def _stop(self) -> None:
        try:
            await self._partner.stop()
        except MlxftError as error:
            self._complain(str(error))

    # Keys and focus

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        writing = isinstance(self.focused, PromptInput)
        match action:
            case "stop":
                return self._busy
            case "leave":
                return writing and not self._busy
            case "write":
                return not writing
            case "retry" | "clear":
                return not self._busy and bool(self.query(TurnView))
            case _:
                return super().check_action(action, parameters)

    def action_leave(self) -> None:
        """Give the keys to the screen."""
        self.query_one("#talk").focus()

    def action_write(self) -> None:
        """Go to the line."""
        self.query_one(PromptInput).focus()

    async def action_clear(self) -> None:
        """Begin a new conversation."""
        await self.query(TurnView).remove()
        self.query_one("#welcome").display = True
        self.refresh_bindings()

    def action_scroll_talk(self, lines: int) -> None:
        """Scroll the conversation."""
        self.query_one("#talk", VerticalScroll).scroll_relative(y=lines, animate=False)

    def _complain(self, problem: str) -> None:
        self.notify(printable_line(problem), severity="warning", timeout=8, markup=False)


def _adapter_title(step: int) -> str:
    return f"adapter · step {step}"


def _verdict(turn: Turn, answer: Answer) -> str:
    """Whether an example's answer is the one expected."""
    if turn.example is None or answer.finish_reason == "cancelled":
        return ""
    same = answer.text.strip() == turn.example.expected.strip()
    return "✓ as expected  " if same else "✗ not as expected  "

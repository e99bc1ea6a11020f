"""An input line at the bottom of a screen, visible while it is needed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import var
from textual.widgets import Input, Static

from mlxft.text.printable import printable_line
from mlxft_tui.widgets.ordered_input import OrderedInput
from mlxft_tui.widgets.remappable import Remappable


class AnswerInput(Remappable, OrderedInput, keys="line"):
    """The text of an answer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Accept", tooltip="Accept the text"),
    ]


class AskLine(Remappable, Vertical, keys="line"):
    """A question and its answer, below what is wrong with it; enter submits, escape cancels."""

    DEFAULT_CSS = """
    AskLine {
        display: none;
        height: auto;
        background: $surface;
        & > Horizontal { height: 1; }
        & > #problem { display: none; max-height: 3; padding: 0 1; color: $error; }
        & #question { width: auto; padding: 0 1; color: $accent; }
        & Input { width: 1fr; background: $surface; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="cancel"),
        Binding(
            "ctrl+r",
            "toggle_regex",
            "Regex",
            tooltip="Regular expression or plain text",
        ),
    ]

    is_regex: var[bool] = var(False)

    class Answered(Message):
        """Enter was pressed."""

        def __init__(self, purpose: str, text: str, is_regex: bool) -> None:
            super().__init__()
            self.purpose = purpose
            self.text = text
            self.is_regex = is_regex

    class Cancelled(Message):
        """Escape was pressed."""

    def __init__(self) -> None:
        super().__init__()
        self._purpose = ""
        self._allow_regex = False

    def compose(self) -> ComposeResult:
        yield Static(id="problem")
        with Horizontal():
            yield Static(id="question")
            answer = AnswerInput(compact=True)
            answer.cursor_blink = False
            yield answer

    def ask(
        self, purpose: str, text: str = "", *, allow_regex: bool = False, problem: str = ""
    ) -> None:
        """Open the line; `allow_regex` lets ctrl+r make the answer a regular expression.

        A `problem` of the answer before is shown above it.
        """
        shown = self.query_one("#problem", Static)
        shown.display = bool(problem)
        shown.update(Content(printable_line(problem)))
        self._purpose, self._allow_regex = purpose, allow_regex
        self.refresh_bindings()
        self._show_question()
        answer = self.query_one(Input)
        answer.value = printable_line(text)
        answer.action_end()
        self.display = True
        answer.focus()

    def _show_question(self) -> None:
        kind = " regex" if self.is_regex and self._allow_regex else ""
        self.query_one("#question", Static).update(Content(self._purpose + kind))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._allow_regex if action == "toggle_regex" else True

    def watch_is_regex(self) -> None:
        if self.is_mounted:
            self._show_question()

    def action_toggle_regex(self) -> None:
        self.is_regex = self._allow_regex and not self.is_regex

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.display = False
        self.post_message(self.Answered(self._purpose, message.value, self.is_regex))

    def action_cancel(self) -> None:
        self.display = False
        self.post_message(self.Cancelled())

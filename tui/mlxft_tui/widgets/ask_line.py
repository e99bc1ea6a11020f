"""One line to write in, at the foot of a screen: there while it is needed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.reactive import var
from textual.widgets import Input, Static

from mlxft.text.printable import printable_line
from mlxft_tui.widgets.keys_in_order import OrderedInput
from mlxft_tui.widgets.remappable import Remappable


class AskLine(Remappable, Horizontal, keys="line"):
    """A question and its answer; enter gives it, escape takes it back."""

    DEFAULT_CSS = """
    AskLine {
        display: none;
        height: 1;
        background: $surface;
        & > Static { width: auto; padding: 0 1; color: $accent; }
        & > Input { width: 1fr; background: $surface; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", tooltip="Leave it as it was", id="cancel"),
        Binding(
            "ctrl+r",
            "other_kind",
            "Regex",
            tooltip="Plain text, or an expression",
            id="search_kind",
        ),
    ]

    is_expression: var[bool] = var(False)

    class Answered(Message):
        """Enter was pressed."""

        def __init__(self, purpose: str, text: str, is_expression: bool) -> None:
            super().__init__()
            self.purpose = purpose
            self.text = text
            self.is_expression = is_expression

    class Left(Message):
        """Escape was pressed."""

    def __init__(self) -> None:
        super().__init__()
        self._purpose = ""
        self._has_kinds = False

    def compose(self) -> ComposeResult:
        yield Static()
        answer = OrderedInput(compact=True)
        answer.cursor_blink = False
        yield answer

    def ask(self, purpose: str, text: str = "", *, has_kinds: bool = False) -> None:
        """Open the line; with `has_kinds` the answer can be a regular expression."""
        self._purpose, self._has_kinds = purpose, has_kinds
        self.refresh_bindings()
        self._show_question()
        answer = self.query_one(Input)
        answer.value = printable_line(text)
        answer.action_end()
        self.display = True
        answer.focus()

    def _show_question(self) -> None:
        kind = " expression" if self.is_expression and self._has_kinds else ""
        self.query_one(Static).update(Content(self._purpose + kind))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._has_kinds if action == "other_kind" else True

    def watch_is_expression(self) -> None:
        if self.is_mounted:
            self._show_question()

    def action_other_kind(self) -> None:
        self.is_expression = self._has_kinds and not self.is_expression

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.display = False
        self.post_message(self.Answered(self._purpose, message.value, self.is_expression))

    def action_leave(self) -> None:
        self.display = False
        self.post_message(self.Left())

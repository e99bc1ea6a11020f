"""A dialog to reopen one of the project's past conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from mlxft.chat.reopen import Conversation
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.remappable import Remappable


class ConversationList(LineList):
    """One line per conversation: age, number of prompts, first prompt."""

    HELP = """The conversations of this project, latest first. Enter reopens one to read or to
    continue."""

    def __init__(self, found: Sequence[Conversation], now: float) -> None:
        super().__init__()
        self._found = found
        self._now = now

    def on_mount(self) -> None:
        self.count = len(self._found)

    def line(self, index: int, width: int) -> Content:
        each = self._found[index]
        age = figures.age(self._now - each.time)
        prompts = "1 prompt" if each.prompts == 1 else f"{each.prompts} prompts"
        return Content.assemble(
            (f"{age:>7}  {prompts:<11}  ", MUTED), printable_line(each.first_prompt)
        ).truncate(width, ellipsis=True)


class ConversationDialog(Remappable, ModalScreen[Conversation | None], keys="conversations"):
    """Returns the conversation to reopen; None if cancelled."""

    CSS_PATH = "conversation_dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "close", "Close")]

    def __init__(self, found: Sequence[Conversation], now: float) -> None:
        super().__init__()
        self._found = found
        self._now = now

    def compose(self) -> ComposeResult:
        with Vertical(id="conversations") as dialog:
            dialog.border_title = "past conversations"
            dialog.border_subtitle = "enter opens  esc closes"
            yield ConversationList(self._found, self._now)

    @on(LineList.Chosen)
    def _open(self, message: LineList.Chosen) -> None:
        self.dismiss(self._found[message.index])

    def action_close(self) -> None:
        """Close."""
        self.dismiss(None)

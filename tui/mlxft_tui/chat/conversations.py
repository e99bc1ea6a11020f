"""The project's past conversations: a sheet to open one of them again."""

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
    """A line for each conversation: when, how long, and what it began with."""

    HELP = """What was asked in this project, the latest first. Enter opens a conversation again,
    to be read or gone on with."""

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
    """Answers with the conversation to open; None opens none."""

    CSS_PATH = "conversations.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "leave", "Close", id="close")]

    def __init__(self, found: Sequence[Conversation], now: float) -> None:
        super().__init__()
        self._found = found
        self._now = now

    def compose(self) -> ComposeResult:
        with Vertical(id="conversations") as sheet:
            sheet.border_title = "past conversations"
            sheet.border_subtitle = "enter opens  esc closes"
            yield ConversationList(self._found, self._now)

    @on(LineList.Chosen)
    def _open(self, message: LineList.Chosen) -> None:
        self.dismiss(self._found[message.index])

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

"""A dialog to reopen one of the project's past conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft.chat.reopen import Conversation
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.text.values import AGES_SECONDS
from mlxft_tui.widgets.line_list import LineList


class ConversationList(LineList):
    """One line per conversation: age, number of prompts, first prompt."""

    HELP = """The conversations of this project, latest first. Enter reopens one to read or to
    continue."""

    def __init__(self, found: Sequence[Conversation], clock: Callable[[], float]) -> None:
        super().__init__()
        self._found = found
        self._clock = clock

    def on_mount(self) -> None:
        self.count = len(self._found)
        self.set_interval(AGES_SECONDS, self.refresh)

    def line(self, index: int, width: int) -> Content:
        each = self._found[index]
        age = figures.age(self._clock() - each.time)
        prompts = "1 prompt" if each.prompts == 1 else f"{each.prompts} prompts"
        return Content.assemble(
            (f"{age:>7}  {prompts:<11}  ", MUTED), printable_line(each.first_prompt)
        ).truncate(width, ellipsis=True)


class ConversationDialog(Sheet[Conversation], keys="conversations"):
    """Returns the conversation to reopen; None if cancelled."""

    CSS_PATH = "conversation_dialog.tcss"
    CLICK_ACCEPTS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Open", priority=True),
        Binding("escape,q", "cancel", "Close", id="close"),
    ]

    def __init__(self, found: Sequence[Conversation], clock: Callable[[], float]) -> None:
        super().__init__()
        self._found = found
        self._clock = clock

    def compose(self) -> ComposeResult:
        with Vertical(id="conversations") as dialog:
            dialog.border_title = "past conversations"
            yield ConversationList(self._found, self._clock)

    def shown(self) -> Conversation:
        return self._found[self.query_one(ConversationList).cursor]

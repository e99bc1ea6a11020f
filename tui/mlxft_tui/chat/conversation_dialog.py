"""A dialog to reopen one of the project's past conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft.chat.reopen import Conversation
from mlxft.errors import StorageError
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.ages import AGES_SECONDS
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.notices import show_error

MOST_SHOWN = 60
"""Characters of a prompt in a question."""


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

    def show(self, found: Sequence[Conversation]) -> None:
        """Show these conversations, with the cursor about where it was."""
        self._found = found
        self.count = len(found)
        self.cursor = min(self.cursor, max(0, len(found) - 1))
        self.refresh()

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
        Binding("d", "delete", "Delete", tooltip="Delete the conversation for good"),
        Binding("escape,q", "cancel", "Close", id="close"),
    ]

    def __init__(
        self,
        found: Sequence[Conversation],
        clock: Callable[[], float],
        delete: Callable[[Conversation], None],
    ) -> None:
        """`delete` removes a conversation from the history, and raises `StorageError`."""
        super().__init__()
        self._found = list(found)
        self._clock = clock
        self._delete = delete

    def compose(self) -> ComposeResult:
        with Vertical(id="conversations") as dialog:
            dialog.border_title = "past conversations"
            yield ConversationList(self._found, self._clock)

    def shown(self) -> Conversation:
        return self._found[self.query_one(ConversationList).cursor]

    def action_delete(self) -> None:
        """Delete the conversation under the cursor, once confirmed."""
        chosen = self.shown()

        def confirmed(is_confirmed: bool | None) -> None:
            if is_confirmed:
                self._remove(chosen)

        first = printable_line(chosen.first_prompt)[:MOST_SHOWN]
        question = f"Delete the conversation “{first}”? This can't be undone."
        self.app.push_screen(ConfirmDialog(question, "Delete", "Keep it"), confirmed)

    def _remove(self, conversation: Conversation) -> None:
        try:
            self._delete(conversation)
        except StorageError as error:
            show_error(self, error)
            return
        self._found.remove(conversation)
        if self._found:
            self.query_one(ConversationList).show(self._found)
        else:
            self.action_cancel()

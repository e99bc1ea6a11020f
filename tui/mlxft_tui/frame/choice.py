"""One of several: a small sheet of named things, of which enter takes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.remappable import Remappable

MOST_NAME_CELLS = 30

ABOUT_LINES = 3
"""A gap, and what is said of the one under the cursor."""


class ChoiceList(LineList):
    """A line for each: its name, and what it is."""

    HELP = "Enter takes the one under the cursor, escape none."

    def __init__(self, choices: Sequence[tuple[str, str]], at: int) -> None:
        super().__init__()
        self._choices = choices
        self._at = at
        self._name_cells = min(MOST_NAME_CELLS, max(len(name) for name, _ in choices))

    def on_mount(self) -> None:
        self.count = len(self._choices)
        self.cursor = self._at

    def line(self, index: int, width: int) -> Content:
        name, words = self._choices[index]
        shown = Content(name).truncate(self._name_cells, ellipsis=True, pad=True)
        return Content.assemble(shown, "  ", (words, MUTED)).truncate(width, ellipsis=True)


class ChoiceDialog(Remappable, ModalScreen[int | None], keys="choice"):
    """Answers with the place of the one chosen; None chooses none."""

    CSS_PATH = "choice.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "leave", "As before", id="cancel")]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], at: int = 0) -> None:
        super().__init__()
        self._heading = title
        self._choices = choices
        self._list = ChoiceList(choices, at)

    def compose(self) -> ComposeResult:
        with Vertical(id="choice") as sheet:
            sheet.border_title = self._heading
            sheet.border_subtitle = "enter takes it  esc as before"
            sheet.styles.height = len(self._choices) + 2 + ABOUT_LINES
            yield self._list
            yield Static(self._about(self._list.cursor), id="about")

    def _about(self, at: int) -> Content:
        """The words of one in full, which its line may have had to cut."""
        return Content.styled(self._choices[at][1].strip(), MUTED)

    @on(LineList.Moved)
    def _tell(self, message: LineList.Moved) -> None:
        self.query_one("#about", Static).update(self._about(message.index))

    @on(LineList.Chosen)
    def _take(self, message: LineList.Chosen) -> None:
        self.dismiss(message.index)

    def action_leave(self) -> None:
        """Close without a choice."""
        self.dismiss(None)

"""A dialog to choose one of several named items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

MAX_NAME_CELLS = 30

ABOUT_LINES = 3
"""A gap, and the description of the selected item."""


class ChoiceList(LineList):
    """One line per item: its name and description."""

    HELP = "{choice.accept} selects, {choice.cancel} cancels."

    def __init__(self, choices: Sequence[tuple[str, str]], selected: int) -> None:
        super().__init__()
        self._choices = choices
        self._selected = selected
        self._name_cells = min(MAX_NAME_CELLS, max(len(name) for name, _ in choices))

    def on_mount(self) -> None:
        self.count = len(self._choices)
        self.cursor = self._selected

    def line(self, index: int, width: int) -> Content:
        name, description = self._choices[index]
        shown = Content(name).truncate(self._name_cells, ellipsis=True, pad=True)
        return Content.assemble(shown, "  ", (description, MUTED)).truncate(width, ellipsis=True)


class ChoiceDialog(Sheet[int], keys="choice"):
    """Returns the index of the chosen item, or None if cancelled."""

    CSS_PATH = "choice.tcss"
    CLICK_ACCEPTS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Select", priority=True),
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], selected: int = 0) -> None:
        super().__init__()
        self._heading = title
        self._choices = choices
        self._selected = selected
        self._list = ChoiceList(choices, selected)

    def compose(self) -> ComposeResult:
        with Vertical(id="choice") as dialog:
            dialog.border_title = self._heading
            dialog.styles.height = len(self._choices) + 2 + ABOUT_LINES
            yield self._list
            yield Static(self._about(self._selected), id="about")

    def _about(self, index: int) -> Content:
        """The full description of an item, which its line may have truncated."""
        return Content.styled(self._choices[index][1].strip(), MUTED)

    @on(LineList.Moved)
    def _describe(self, message: LineList.Moved) -> None:
        self.query_one("#about", Static).update(self._about(message.index))

    def shown(self) -> int:
        return self._list.cursor

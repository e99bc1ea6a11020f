"""A dialog to choose the columns of the table of runs, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft.comparison.columns import COLUMNS
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.runs.table_look import NAME
from mlxft_tui.text.theme import FAINT, MUTED
from mlxft_tui.widgets.line_list import LineList

ID_CELLS = 30


class ColumnList(LineList, keys="columns"):
    """The chosen columns in their order, then all others."""

    HELP = "Columns of the table, the chosen ones first, and every parameter of the recipe."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "switch", "Show", tooltip="Show the column, or no longer"),
        Binding("K,shift+up", "shift(-1)", "Left", id="left", tooltip="Move it to the left"),
        Binding("J,shift+down", "shift(1)", "Right", id="right", tooltip="Move it to the right"),
    ]

    def __init__(self, chosen: Sequence[str]) -> None:
        super().__init__()
        self._chosen = [each for each in chosen if each in COLUMNS]
        self._ids = self._ordered()

    @property
    def chosen(self) -> tuple[str, ...]:
        """The chosen columns' ids, from the left."""
        return tuple(self._chosen)

    @property
    def current(self) -> str:
        """The id under the cursor."""
        return self._ids[self.cursor]

    def _ordered(self) -> list[str]:
        return [*self._chosen, *(each for each in COLUMNS if each not in (*self._chosen, NAME))]

    def on_mount(self) -> None:
        self.count = len(self._ids)

    def line(self, index: int, width: int) -> Content:
        column = COLUMNS[self._ids[index]]
        is_chosen = column.id in self._chosen
        sign = ("● ", "$primary bold") if is_chosen else ("○ ", FAINT)
        name = Content(column.id).truncate(ID_CELLS, ellipsis=True, pad=True)
        return Content.assemble(sign, name, (column.help, MUTED)).truncate(width, ellipsis=True)

    def action_switch(self) -> None:
        """Show the column as the last one, or no longer; the cursor stays where it is."""
        current = self.current
        if current in self._chosen:
            self._chosen.remove(current)
        else:
            self._chosen.append(current)
        self._ids = self._ordered()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor))

    def action_shift(self, by: int) -> None:
        """Move a chosen column by a place."""
        current = self.current
        if current not in self._chosen:
            return
        at = self._chosen.index(current)
        to = min(max(0, at + by), len(self._chosen) - 1)
        self._chosen.insert(to, self._chosen.pop(at))
        self._ids = self._ordered()
        self.cursor = to
        self.refresh()


class ColumnsDialog(Sheet[tuple[str, ...]], keys="columns"):
    """Returns the ids of the chosen columns; None if cancelled."""

    CSS_PATH = "columns_dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Apply", priority=True),
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(self, chosen: Sequence[str]) -> None:
        super().__init__()
        self._list = ColumnList(chosen)

    def compose(self) -> ComposeResult:
        with Vertical(id="columns-sheet") as dialog:
            dialog.border_title = "columns"
            yield self._list
            yield Static(id="about-column")

    @on(LineList.Moved)
    def _describe(self) -> None:
        about = Content.styled(COLUMNS[self._list.current].help, MUTED)
        self.query_one("#about-column", Static).update(about)

    def shown(self) -> tuple[str, ...]:
        return self._list.chosen

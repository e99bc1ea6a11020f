"""The table of runs: one line each, of which only the visible ones are drawn."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ClassVar, Final, NamedTuple

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from mlxft.comparison.columns import COLUMNS, Column, Kind
from mlxft.comparison.table import RunRow
from mlxft.runs.directory import RunDirectory
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.runs.table_look import NAME, TableLook
from mlxft_tui.text.ages import AGES_SECONDS
from mlxft_tui.text.cells import shortened
from mlxft_tui.text.theme import FAINT, STATE_LOOKS
from mlxft_tui.widgets.line_list import LineList

WIDTHS: Final[dict[Kind, int]] = {
    "text": 14,
    "names": 16,
    "flag": 8,
    "count": 9,
    "loss": 7,
    "share": 8,
    "rate": 6,
    "bytes": 8,
    "duration": 9,
    "moment": 6,
    "parameter": 12,
}
"""Cells of a column by what it holds."""

OWN_WIDTHS: Final = {"state": 10, "step": 11, "loss": 6, "best_validation_loss": 11}
NOTES: Final = COLUMNS["notes"]
LEAST_NAME_CELLS: Final = 16
MOST_NAME_CELLS: Final = 48
"""Most cells of the names where they are shorter, so that lines are easy to follow."""
LEAST_NOTES_CELLS: Final = 20
"""Cells that names and figures must leave for notes to be shown although they aren't chosen."""
GAP: Final = "  "
MARK: Final = "● "
PIN: Final = "↑ "
ARCHIVED: Final = "↓ "
EARLIER, LATER = "‹ ", "›"
"""Beside the titles, where columns are out of sight."""


class _Placed(NamedTuple):
    """A column with its cells."""

    column: Column
    cells: int


class RunsTable(LineList, keys="runs"):
    """Runs; the cursor stays on its run when others are added, deleted or sorted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "choose", "Follow", tooltip="Show this run on the Train screen", id="follow"
        ),
        Binding("space", "mark", "Mark", tooltip="Mark the run to compare it, or no longer"),
        Binding("left", "columns(-1)", "Earlier columns", show=False, id="earlier_columns"),
        Binding("right", "columns(1)", "Later columns", show=False, id="later_columns"),
    ]

    class Resized(Message):
        """The columns have new widths, or others are shown."""

    class MarksChanged(Message):
        """Other runs are marked."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._rows: tuple[RunRow, ...] = ()
        self._look = TableLook()
        self._longest = 0
        """Cells of the longest name."""
        self._has_notes = False
        self._first = 0
        """The first column after the name."""
        self._marked: tuple[RunDirectory, ...] = ()
        """In the order in which they were marked."""

    def on_mount(self) -> None:
        self.set_interval(AGES_SECONDS, self.refresh)
        self.watch(self, "show_vertical_scrollbar", self._show_titles, init=False)

    @property
    def chosen(self) -> RunRow | None:
        """The run under the cursor."""
        return self._rows[self.cursor] if self.cursor < len(self._rows) else None

    @property
    def marked(self) -> tuple[RunDirectory, ...]:
        """The marked runs, also those that a filter hides."""
        return self._marked

    def unmark(self) -> bool:
        """Remove all marks; False if there are none."""
        had, self._marked = bool(self._marked), ()
        self.refresh()
        self.post_message(self.MarksChanged())
        return had

    def forget(self, rows: tuple[RunRow, ...]) -> None:
        """Drop the marks of runs that are no longer there."""
        here = {row.directory for row in rows}
        self._marked = tuple(each for each in self._marked if each in here)

    def action_mark(self) -> None:
        """Mark the run, or no longer, and move to the next."""
        if row := self.chosen:
            kept = tuple(each for each in self._marked if each != row.directory)
            is_marked = len(kept) < len(self._marked)
            self._marked = kept if is_marked else (*kept, row.directory)
            self.refresh_line(self.cursor)
            self.post_message(self.MarksChanged())
            self.action_move(1)

    def show(self, rows: tuple[RunRow, ...], look: TableLook) -> None:
        """Show these runs."""
        directory = self.chosen.directory if self.chosen else None
        has_other_columns = look.columns != self._look.columns
        self._rows, self._look = rows, look
        self._longest = max((cell_len(_name(row)) for row in rows), default=0)
        self._has_notes = any(row.labels.notes for row in rows)
        self._first = 0 if has_other_columns else self._first
        self.count = len(rows)
        found = (at for at, row in enumerate(rows) if row.directory == directory)
        self.cursor = next(found, self.cursor)
        self.refresh()
        self._show_titles()

    def on_resize(self) -> None:
        super().on_resize()
        self.action_columns(0)

    def action_columns(self, by: int) -> None:
        """Show columns that are further left or right, as far as they don't fit."""
        columns = self._look.shown
        last = len(columns) - 1
        while last > 0 and _cells(columns[last - 1 :]) <= self._room:
            last -= 1
        self._first = min(max(0, self._first + by), max(0, last))
        self.refresh()
        self._show_titles()

    def _show_titles(self) -> None:
        self.post_message(self.Resized())

    @property
    def _room(self) -> int:
        """Cells of all columns but the name."""
        return self.scrollable_content_region.width - 2 - LEAST_NAME_CELLS - 1

    def _shown(self) -> tuple[list[_Placed], int]:
        """The columns that fit, and the cells that are left to the name.

        Where there are notes they get what names and figures leave.
        """
        fitting: list[Column] = []
        for column in self._look.shown[self._first :]:
            if _cells([*fitting, column]) > self._room:
                break
            fitting.append(column)
        shown = [_Placed(each, _width(each)) for each in fitting]
        left = self._room + LEAST_NAME_CELLS - _cells(fitting)
        if self._has_notes and self._first + len(shown) == len(self._look.shown):
            names = min(left, max(self._longest, LEAST_NAME_CELLS))
            if NOTES in fitting:
                at = fitting.index(NOTES)
                shown[at] = _Placed(NOTES, shown[at].cells + left - names)
                return shown, names
            if left - names - len(GAP) >= LEAST_NOTES_CELLS:
                return [*shown, _Placed(NOTES, left - names - len(GAP))], names
        return shown, min(left, max(self._longest, MOST_NAME_CELLS))

    def columns(self) -> Content:
        """The column titles, aligned with the lines."""
        shown, cells = self._shown()
        name = Content(self._title(NAME, NAME)).truncate(cells, ellipsis=True, pad=True)
        titles = [
            _cell(Content(self._title(each.column.id, each.column.title)), each) for each in shown
        ]
        chosen = self._look.shown[self._first :]
        has_more = bool(chosen) and chosen[-1] not in [each.column for each in shown]
        return Content.assemble(
            EARLIER if self._first else "  ",
            Content(GAP).join([name, *titles]),
            LATER if has_more else "",
        )

    def _title(self, id: str, title: str) -> str:  # noqa: A002
        if id != self._look.order:
            return title
        return f"{title}{'▼' if self._look.descending else '▲'}"

    def line_key(self, index: int) -> Hashable:
        row = self._rows[index]
        minute = int(self._clock() // AGES_SECONDS)
        shown, names = self._shown()
        widths = names, *(each.cells for each in shown)
        return id(row), row.directory in self._marked, self._look, self._first, widths, minute

    def line(self, index: int, width: int) -> Content:
        row, now = self._rows[index], self._clock()
        shown, cells = self._shown()
        sign = MARK if row.directory in self._marked else ""
        sign += _signs(row)
        style = FAINT if row.labels.archived else "bold"
        name = shortened(printable_line(row.title), cells - cell_len(sign))
        whole = [Content.assemble((sign, "$accent"), (name, style)).truncate(cells, pad=True)]
        whole += [_cell(_content(row, each.column, now), each) for each in shown]
        return Content(GAP).join(whole)


def _signs(row: RunRow) -> str:
    return (PIN if row.labels.pinned else "") + (ARCHIVED if row.labels.archived else "")


def _name(row: RunRow) -> str:
    """A run's name as the table has it, with a mark in any case so that no width depends on it."""
    return MARK + _signs(row) + printable_line(row.title)


def _cells(columns: list[Column] | tuple[Column, ...]) -> int:
    return sum(_width(column) + len(GAP) for column in columns)


def _width(column: Column) -> int:
    return OWN_WIDTHS.get(column.id, max(WIDTHS[column.kind], len(column.title) + 1))


def _content(row: RunRow, column: Column, now: float) -> Content:
    said = row.summary
    match column.id:
        case "state":
            look = STATE_LOOKS[row.state]
            return Content.styled(f"{look.symbol} {look.word.lower()}", look.style)
        case "step":
            return Content(f"{said.step}/{said.iters}" if said.iters else figures.NONE)
        case "best_validation_loss" if said.best_validation_loss is not None:
            return Content(f"{said.best_validation_loss:.3f} @{said.best_validation_step}")
        case _:
            return Content(column.text(row, now))


def _cell(content: Content, placed: _Placed) -> Content:
    column, width = placed
    missing = width - content.cell_length
    if missing < 0:
        return content.truncate(width, ellipsis=True)
    is_left = column.id == "state" or not column.is_figure
    return content.pad_right(missing) if is_left else content.pad_left(missing)

"""The dialog that shows what becomes of a sweep, as it trains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Literal

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlxft.errors import MlxftError
from mlxft.runs.directory import RunDirectory
from mlxft.sweep.record import SweepRecord
from mlxft.sweep.report import Result, cells, parameters_of, summary
from mlxft.text.printable import printable_line
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.cells import shortened
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

POLL_SECONDS: Final = 2.0

MOST_CELLS: Final = 22
"""Of a column."""

CURSOR_CELLS: Final = 2

Report = tuple[SweepRecord, Sequence[Result]]

FIGURES: Final = ("state", "steps", "best val", "loss", "tok/s", "peak", "time", "run")

RUN_CELLS: Final = 8
"""The least of a run's name, whose column has whatever the others leave."""

LESS_IMPORTANT: Final = ("tok/s", "time", "peak", "steps", "loss")
"""The figures that a narrow line leaves out, the first one first."""


class ResultList(LineList):
    """A line per point, the best first."""

    def __init__(self) -> None:
        super().__init__()
        self.results: Sequence[Result] = ()
        self._rows: list[list[str]] = []
        self._cells: list[int] = []
        self._wanted: list[int] = []
        self._head: list[str] = []
        self._left_out: frozenset[int] = frozenset()

    def left_out(self) -> str:
        """The figures of the point under the cursor that its line leaves out."""
        if not self._rows:
            return ""
        pairs = [(self._head[at], self._rows[self.cursor][at]) for at in sorted(self._left_out)]
        return "  ".join(f"{title} {text}" for title, text in pairs)

    def show(self, report: Report) -> Content:
        """Show a report; returns the line above it."""
        record, self.results = report
        keys = parameters_of(record)
        head = self._head = [*(key.rpartition(".")[2] for key in keys), *FIGURES]
        self._rows = [cells(each, keys) for each in self.results]
        columns = zip(head, *self._rows, strict=True)
        self._wanted = [max(map(len, each)) for each in columns]
        self.count = len(self._rows)
        self.refresh()
        self._leave_out()
        width = self.scrollable_content_region.width - CURSOR_CELLS
        return Content.styled(" " * CURSOR_CELLS + self._joined(head, width), MUTED)

    def on_resize(self) -> None:
        super().on_resize()
        self._leave_out()

    def _leave_out(self) -> None:
        """Leave out the least important figures until the others have room."""
        width = self.scrollable_content_region.width - CURSOR_CELLS
        left_out: set[int] = set()
        run = len(self._wanted) - 1
        self._cells = [min(MOST_CELLS, each) for each in self._wanted]

        def room_of_the_run() -> int:
            others = (each for at, each in enumerate(self._cells[:-1]) if at not in left_out)
            return width - sum(each + 2 for each in others)

        for title in LESS_IMPORTANT if self._cells else ():
            if room_of_the_run() >= self._cells[run]:
                break
            left_out.add(len(self._cells) - len(FIGURES) + FIGURES.index(title))
        if self._cells:
            self._cells[run] = min(self._wanted[run], room_of_the_run())
            if self._cells[run] < min(RUN_CELLS, self._wanted[run]):
                left_out.add(run)
        self._left_out = frozenset(left_out)

    def line(self, index: int, width: int) -> Content:
        return Content(self._joined(self._rows[index], width))

    def _joined(self, texts: Sequence[str], width: int) -> str:
        """The columns that have room in a line."""
        shown = ""
        for at, (text, room) in enumerate(zip(texts, self._cells, strict=True)):
            if at in self._left_out:
                continue
            column = f"{shortened(text, room):<{room}}  "
            if len(shown) + room > width:
                break
            shown += column
        return shown[:width]


class SweepReport(Sheet[RunDirectory], keys="sweep_report"):
    """Shows a sweep's points until it is closed; enter follows the run under the cursor."""

    CSS_PATH = "report.tcss"
    CLICK_ACCEPTS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Follow", priority=True, tooltip="Show the run"),
        Binding("left,h", "step(-1)", "Older", key_display="←→", id="older", tooltip="Older sweep"),
        Binding("right,l", "step(1)", "Newer", show=False, id="newer", tooltip="Newer sweep"),
        Binding("escape,q", "cancel", "Close", id="close"),
    ]

    def __init__(self, names: Sequence[str], read: Callable[[str], Report]) -> None:
        """`names` are the project's sweeps, the newest last; `read` blocks."""
        super().__init__()
        self._names = names
        self._at = len(names) - 1
        self._read = read
        self._list = ResultList()
        # Kept, since a report may still be read while the dialog closes and loses its widgets.
        self._frame = Vertical(id="sweep-report")
        self._summary = Static(id="sweep-summary")
        self._head = Static(id="sweep-head")
        self._reason = Static(id="sweep-reason")

    def compose(self) -> ComposeResult:
        with self._frame as dialog:
            dialog.border_title = "sweeps"
            yield self._summary
            yield self._head
            yield self._list
            yield self._reason

    def on_mount(self) -> None:
        self.set_interval(POLL_SECONDS, self._poll)
        self._poll()

    def action_step(self, by: Literal[-1, 1]) -> None:
        """Show the next or previous sweep."""
        self._at = max(0, min(self._at + by, len(self._names) - 1))
        self._poll()

    @work(group="sweep-report", exclusive=True)
    async def _poll(self) -> None:
        name = self._names[self._at]
        try:
            report = await asyncio.to_thread(self._read, name)
        except MlxftError as error:
            self._summary.update(printable_line(str(error)))
            return
        self._frame.border_title = printable_line(f"sweep {name}")
        self._head.update(self._list.show(report))
        self._summary.update(Content(summary(*report)))
        self._say_reason()

    @on(LineList.Moved)
    def _say_reason(self) -> None:
        """Say why the point under the cursor failed or was skipped, or what its line leaves out."""
        found = self._list.results
        reason = found[self._list.cursor].reason if found else ""
        text = Content.styled(printable_line(reason), "$warning")
        if not reason:
            text = Content.styled(printable_line(self._list.left_out()), MUTED)
        self._reason.update(text)

    def shown(self) -> RunDirectory | None:
        if not self._list.results:
            return None
        return self._list.results[self._list.cursor].directory

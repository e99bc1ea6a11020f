"""A run's log: one line for each event worth reading, kept at its end until one scrolls back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual import events

from mlxft.runs import events as ev
from mlxft.runs.events import AnyEvent
from mlxft_tui import event_text
from mlxft_tui.cells import Role, Row, Run, heading, wrapped
from mlxft_tui.widgets.cell_view import CellView

TIME = "%H:%M:%S "

WHEEL = 3
"""Lines a turn of the mouse wheel scrolls."""


class LogView(CellView):
    """The newest lines at the bottom; long ones are wrapped, never cut."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._events: Sequence[AnyEvent] = ()
        self._behind = 0

    def show(self, log: Sequence[AnyEvent]) -> None:
        """Show a run's log; what one has scrolled back to stays in view while it grows."""
        if self._behind and len(log) >= len(self._events):
            self._behind += len(log) - len(self._events)
        else:
            self._behind = 0
        self._events = log
        self.repaint()

    def scroll_lines(self, lines: int) -> None:
        """Scroll towards the start (negative) or the end."""
        most = max(0, len(self._events) - max(1, self.size.height - 1))
        self._behind = min(max(0, self._behind - lines), most)
        self.repaint()

    def scroll_pages(self, pages: int) -> None:
        """Scroll by what fits."""
        self.scroll_lines(pages * max(1, self.size.height - 2))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_lines(-WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_lines(WHEEL)

    def rows(self, width: int, height: int) -> Sequence[Row]:
        newer: Row = ((f"{self._behind} newer ↓", "muted"),) if self._behind else ()
        title = heading((("log", "strong"),), newer, width)
        return [title, *log_rows(self._events, self._behind, width, height - 1)]


def log_rows(log: Sequence[AnyEvent], behind: int, width: int, height: int) -> list[Row]:
    """The rows that end `behind` events before the log's end."""
    rows: list[Row] = []
    at = len(log) - behind
    while at > 0 and len(rows) < height:
        at -= 1
        rows[:0] = _event_rows(log[at], width)
    return rows[-height:] if height > 0 else []


def _event_rows(event: AnyEvent, width: int) -> list[Row]:
    text = event_text.line(event)
    if text is None:
        return []
    stamp: Run = (time.strftime(TIME, time.localtime(event.time)), "faint")
    room = width - len(stamp[0])
    first, *rest = wrapped(text, _role(event), room) or [()]
    margin: Run = (" " * len(stamp[0]), "plain")
    return [(stamp, *first), *((margin, *row) for row in rest)]


def _role(event: AnyEvent) -> Role:
    match event:
        case ev.ValidationFinished(best=True):
            return "best"
        case ev.ValidationFinished():
            return "validation"
        case ev.Warned():
            return "warning"
        case ev.RunFailed():
            return "bad"
        case ev.RunFinished():
            return "good"
        case ev.TrainReported():
            return "plain"
        case _:
            return "muted"

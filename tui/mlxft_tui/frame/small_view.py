"""What every screen shows below 80×24: the end of the run's log."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from mlxft.runs.events import AnyEvent
from mlxft_tui.text import event_text
from mlxft_tui.text.theme import FAINT

MINIMUM = (40, 12)
"""Columns and rows for the run bar and the log."""
MINIMUM_FULL = (80, 24)
"""Columns and rows for the full screens."""


class SmallView(Widget):
    """The last lines of the log, or the size that is needed."""

    DEFAULT_CSS = """
    SmallView {
        height: 1fr;
        padding: 0 1;
        color: $text-muted;
    }
    """

    lines: reactive[tuple[str, ...]] = reactive(())

    def render(self) -> Content:
        width, height = self.size
        terminal = self.app.size
        if terminal.width < MINIMUM[0] or terminal.height < MINIMUM[1]:
            return Content(
                f"{terminal.width}×{terminal.height} is too small; "
                f"use at least {MINIMUM[0]}×{MINIMUM[1]}."
            )
        shown = [Content(line).truncate(width, ellipsis=True) for line in self.lines[1 - height :]]
        full = "×".join(map(str, MINIMUM_FULL))
        note = Content.styled(f"Full screens need {full}.", FAINT)
        return Content("\n").join([*shown, note])


def log_lines(events: tuple[AnyEvent, ...], count: int) -> tuple[str, ...]:
    """At most the last `count` lines of a log."""
    lines = (event_text.line(event) for event in events[-count:])
    return tuple(line for line in lines if line is not None)

"""A widget of rows of cells that repaints only changed rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.style import Style as VisualStyle
from textual.widget import Widget

from mlxft_tui.text.cells import Role, Row, joined
from mlxft_tui.text.theme import ROLE_STYLES


def is_ascii_only() -> bool:
    """Whether the terminal may be unable to show braille and other marks of curves."""
    encoding = sys.__stdout__.encoding if sys.__stdout__ else "utf-8"
    return os.environ.get("TERM") == "linux" or not encoding.lower().startswith("utf")


class CellView(Widget):
    """Shows the rows that `rows` returns; `repaint` calls it again and paints what changed."""

    ALLOW_SELECT = False

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._rows: tuple[Row, ...] = ()
        self._styles: dict[Role, Style] = {}
        """Cached, since Textual takes as long to look one up as to draw with it.

        They are no component classes: Textual would match all of them with every rule whenever
        anything above this widget changes.
        """

    @property
    def ascii_only(self) -> bool:
        """Whether the terminal may be unable to show braille."""
        return is_ascii_only()

    @property
    def visible_rows(self) -> tuple[Row, ...]:
        """The rows on screen."""
        return self._rows

    def rows(self, width: int, height: int) -> Sequence[Row]:
        """The rows for this size in cells."""
        raise NotImplementedError

    def repaint(self) -> None:
        """Show the current state."""
        if self.size:
            self.show_rows(self.rows(*self.size))

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Show other rows."""
        before, self._rows = self._rows, tuple(rows)
        if self.styles.is_auto_height and len(before) != len(self._rows):
            self.refresh(layout=True)
        for y in range(self.size.height):
            old = before[y] if y < len(before) else ()
            new = self._rows[y] if y < len(self._rows) else ()
            if old != new and joined(old) != joined(new):
                self.refresh(Region(0, y, self.size.width, 1))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.rows(width, viewport.height))

    def on_resize(self) -> None:
        self._rows = tuple(self.rows(*self.size)) if self.size else ()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        row = self._rows[y] if y < len(self._rows) else ()
        segments = [Segment(text, self._style(role)) for text, role in row]
        return Strip(segments).adjust_cell_length(self.size.width, self._style("plain"))

    def _style(self, role: Role) -> Style:
        if role not in self._styles:
            own = VisualStyle.parse(ROLE_STYLES[role])
            self._styles[role] = (self.visual_style + own).rich_style
        return self._styles[role]

    def notify_style_update(self) -> None:
        self._styles.clear()
        super().notify_style_update()

"""A pane of text that repaints only the lines that differ, and scrolls where there are too many."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from textual.cache import LRUCache
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

Writer = Callable[[int], Content]
"""Makes the text for a width in cells."""


class TextPane(ScrollView, can_focus=True):
    """Shows a text; its own size never follows from the text, so a new one costs no layout."""

    DEFAULT_CSS = """
    TextPane {
        height: 1fr;
        padding: 0 1;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    """
    ALLOW_SELECT = False

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._write: Writer = lambda width: Content("")
        self._strips: list[Strip] = []
        self._lines: LRUCache[Hashable, list[Strip]] = LRUCache(256)
        """Lines as they were laid out; of a new text most are those of the one before."""

    def show(self, text: Content | Writer) -> None:
        """Show another text."""
        self._write = text if callable(text) else lambda width: text
        self._lay_out()

    def _lay_out(self) -> None:
        # A cell is kept free at the right, so that a scrollbar doesn't change the line ends.
        width = self.content_size.width - 1
        if width < 1:
            return
        before = self._strips
        written = self._write(width).split(allow_blank=True)
        self._strips = [strip for line in written for strip in self._laid_out(line, width)]
        # A changed virtual size costs a layout; text that fits never needs one.
        lines = len(self._strips)
        self.virtual_size = Size(width, lines if lines > self.content_size.height else 0)
        for y in range(max(len(before), len(self._strips))):
            if before[y : y + 1] != self._strips[y : y + 1]:
                self.refresh_line(y)

    def _laid_out(self, line: Content, width: int) -> list[Strip]:
        key = (line.plain, tuple(line.spans), width)
        if key not in self._lines:
            style = self.visual_style
            self._lines[key] = Visual.to_strips(self, line, width, None, style)
        return self._lines[key]

    def on_resize(self) -> None:
        self._strips = []
        self._lines.clear()
        self._lay_out()
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_mounted:
            self.on_resize()

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        width = self.content_size.width
        if at >= len(self._strips):
            return Strip.blank(width, self.rich_style)
        return self._strips[at].extend_cell_length(width, self.rich_style)

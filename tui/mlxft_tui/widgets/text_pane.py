"""A scrolling text pane that repaints only changed lines."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ClassVar

from textual.cache import LRUCache
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

Writer = Callable[[int], Content]
"""Renders the text for a width in cells."""


class TextPane(ScrollView, can_focus=True):
    """Shows a text; the pane's size is independent of it, so new text needs no layout."""

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
    SAVES_LAYOUTS: ClassVar[bool] = False
    """Whether a scrollbar once shown stays for texts that fit, so that they need no layout."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._write: Writer = lambda width: Content("")
        self._strips: list[Strip] = []
        self._lines: LRUCache[Hashable, list[Strip]] = LRUCache(256)
        """Rendered lines; a new text usually shares most lines with the previous one."""

    def show(self, text: Content | Writer) -> None:
        """Replace the text."""
        self._write = text if callable(text) else lambda width: text
        self._render_text()

    def _render_text(self) -> None:
        # The free cell at the right keeps line breaks the same with and without a scrollbar.
        width = self.content_size.width - 1
        if width < 1:
            return
        before = self._strips
        written = self._write(width).split(allow_blank=True)
        self._strips = [strip for line in written for strip in self._rendered(line, width)]
        # Changing the virtual size costs a layout, so text that fits never does.
        lines = len(self._strips)
        self._set_virtual_size(Size(width, lines if lines > self.content_size.height else 0))
        for y in range(max(len(before), len(self._strips))):
            if before[y : y + 1] != self._strips[y : y + 1]:
                self.refresh_line(y)

    def _set_virtual_size(self, size: Size) -> None:
        if not self.SAVES_LAYOUTS:
            self.virtual_size = size
        elif size != self.virtual_size:
            self.set_reactive(TextPane.virtual_size, size)
            self._scroll_update(size)

    def _refresh_scrollbars(self) -> None:
        if not (self.SAVES_LAYOUTS and self.show_vertical_scrollbar):
            super()._refresh_scrollbars()

    def _rendered(self, line: Content, width: int) -> list[Strip]:
        key = (line.plain, tuple(line.spans), width)
        if key not in self._lines:
            style = self.visual_style
            self._lines[key] = Visual.to_strips(self, line, width, None, style)
        return self._lines[key]

    def on_resize(self) -> None:
        self._strips = []
        self._lines.clear()
        self._render_text()
        if self.SAVES_LAYOUTS:
            super()._refresh_scrollbars()
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

"""A list of any length that renders only the visible lines."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar, Literal

from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive, var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

from mlxft_tui.widgets.remappable import Remappable


class LineList(Remappable, ScrollView, can_focus=True, inherit_bindings=False, keys="list"):
    """A cursor over `count` lines; subclasses implement `line`."""

    DEFAULT_CSS = """
    LineList {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    LineList > .line-list--cursor {
        background: $block-cursor-blurred-background;
        color: $block-cursor-blurred-foreground;
    }
    LineList:focus > .line-list--cursor {
        background: $block-cursor-background;
        color: $block-cursor-foreground;
        text-style: $block-cursor-text-style;
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"line-list--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="up"),
        Binding("down,j", "move(1)", "Down", show=False, id="down"),
        Binding("pageup", "move_page(-1)", "Page up", show=False, id="page_up"),
        Binding("pagedown", "move_page(1)", "Page down", show=False, id="page_down"),
        Binding("home,g", "go_first", "First", show=False, id="first"),
        Binding("end,G", "go_last", "Last", show=False, id="last"),
        Binding("enter", "choose", "Choose", show=False),
    ]
    ALLOW_SELECT = False
    SCROLL_AHEAD: ClassVar[int] = 0
    """Extra lines per scroll, since scrolling repaints every visible line."""

    count: reactive[int] = reactive(0)
    cursor: var[int] = var(0)
    """The selected line; meaningless while `count` is 0."""

    class Moved(Message):
        """The cursor moved to another line."""

        def __init__(self, lines: LineList, index: int) -> None:
            super().__init__()
            self.lines = lines
            self.index = index

        @property
        def control(self) -> LineList:
            return self.lines

    class Chosen(Moved):
        """Enter was pressed on the cursor's line, or the line was clicked."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._strips: LRUCache[Hashable, Strip] = LRUCache(512)

    def line(self, index: int, width: int) -> Content:
        """A line's text in at most `width` cells."""
        raise NotImplementedError

    def line_key(self, index: int) -> Hashable | None:
        """A line's cache key besides its width; None disables caching."""
        return None

    def selectable(self, index: int) -> bool:
        """Whether the cursor may be on a line."""
        return True

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        if index >= self.count or width < 3:
            return Strip.blank(width, self.rich_style)
        on = index == self.cursor
        style = self.visual_style
        if on:
            style += self.get_visual_style("line-list--cursor")
        content_key = self.line_key(index)
        if content_key is None:
            return self._drawn(index, width, on, style)
        # Scrolling by one line moves every visible line.
        key = (index, width, on, style, content_key)
        if key not in self._strips:
            self._strips[key] = self._drawn(index, width, on, style)
        return self._strips[key]

    def _drawn(self, index: int, width: int, on: bool, style: Style) -> Strip:
        content = Content.assemble("› " if on else "  ", self.line(index, width - 2))
        whole = content.truncate(width, ellipsis=True, pad=True)
        return Visual.to_strips(self, whole, width, 1, style)[0]

    def watch_count(self) -> None:
        self.virtual_size = Size(1, self.count)
        self.cursor = self.validate_cursor(self.cursor)

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self, old: int, new: int) -> None:
        self.refresh_line(old)
        self.refresh_line(new)
        self._show_cursor()
        if self.count and self.is_mounted:
            self.post_message(self.Moved(self, new))

    def _show_cursor(self) -> None:
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        ahead = min(self.SCROLL_AHEAD, max(0, height - 1) // 2)
        if self.cursor < top:
            self.scroll_to(y=self.cursor - ahead, animate=False, immediate=True)
        elif height and self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1 + ahead, animate=False, immediate=True)

    def on_resize(self) -> None:
        self._show_cursor()

    def action_move(self, by: int) -> None:
        self._move_to(self.cursor + by, 1 if by > 0 else -1)

    def action_move_page(self, direction: Literal[-1, 1]) -> None:
        page = max(1, self.scrollable_content_region.height - 1)
        self._move_to(self.cursor + direction * page, direction)

    def action_go_first(self) -> None:
        self._move_to(0, 1)

    def action_go_last(self) -> None:
        self._move_to(self.count - 1, -1)

    def action_choose(self) -> None:
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def _move_to(self, index: int, direction: int) -> None:
        """Move to the nearest selectable line, trying `direction` first."""
        index = max(0, min(index, self.count - 1))
        for step in (direction, -direction):
            at = index
            while 0 <= at < self.count:
                if self.selectable(at):
                    self.cursor = at
                    return
                at += step

    def on_click(self, event: events.Click) -> None:
        index = event.get_content_offset_capture(self).y + self.scroll_offset.y
        if not 0 <= index < self.count or not self.selectable(index):
            return
        if index == self.cursor:
            self.action_choose()
        self.cursor = index

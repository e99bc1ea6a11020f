"""A growing list that stays at its end until scrolled back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from mlxft_tui.text.cells import Row, Span, cropped, heading
from mlxft_tui.widgets.cell_view import CellView

if TYPE_CHECKING:
    from textual import events

WHEEL = 3
"""Items per turn of the mouse wheel."""

Item = TypeVar("Item")


class Scrollback(CellView, Generic[Item]):
    """Shows the newest items at the bottom; subclasses implement `item_rows`."""

    def __init__(self, title: str, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._title = title
        self._items: Sequence[Item] = ()
        self._behind = 0

    def item_rows(self, item: Item, width: int) -> Sequence[Row]:
        """An item as rows."""
        raise NotImplementedError

    def note(self) -> Row:
        """A note at the right of the title."""
        return ()

    def put(self, items: Sequence[Item], new: int) -> None:
        """Show these items, the last `new` of which are new, keeping the scroll position."""
        self._items = items
        self._behind = min(self._behind + new, len(items)) if self._behind else 0
        self.repaint()

    def scroll_lines(self, lines: int) -> None:
        """Scroll by items, towards the start if negative."""
        most = max(0, len(self._items) - max(1, self.size.height - 1))
        self._behind = min(max(0, self._behind - lines), most)
        self.repaint()

    def scroll_pages(self, pages: int) -> None:
        """Scroll by pages."""
        self.scroll_lines(pages * max(1, self.size.height - 2))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_lines(-WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_lines(WHEEL)

    def rows(self, width: int, height: int) -> Sequence[Row]:
        newer: tuple[Span, ...] = ((f"  {self._behind} newer ↓", "muted"),) if self._behind else ()
        title = heading(((self._title, "strong"), *newer), cropped(self.note(), width // 2), width)
        return [title, *self._last_rows(width, height - 1)]

    def _last_rows(self, width: int, height: int) -> list[Row]:
        """The rows up to the scroll position."""
        rows: list[Row] = []
        at = len(self._items) - self._behind
        while at > 0 and len(rows) < height:
            at -= 1
            rows[:0] = self.item_rows(self._items[at], width)
        return rows[-height:] if height > 0 else []

"""The bottom line of keys, repainted only when they change."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from mlxft_tui.frame.keys import PINNED_RIGHT
from mlxft_tui.text.theme import FAINT
from mlxft_tui.widgets.remappable import in_declared_order

GAP = 2
"""Cells between two keys."""

MORE = "… "
"""More keys than fit; the help dialog lists all of them."""


class Key(NamedTuple):
    """A key, its label, what it does, and whether it is enabled."""

    key: str
    display: str
    description: str
    enabled: bool

    @property
    def cells(self) -> int:
        """Width of label and description."""
        return cell_len(self.display) + 1 + cell_len(self.description)

    @property
    def content(self) -> Content:
        """The bright label and its description, or both faint when disabled."""
        if not self.enabled:
            return Content.styled(f"{self.display} {self.description}", FAINT)
        return Content.assemble((self.display, "bold $primary"), " ", self.description)


class KeyBar(Widget):
    """The keys available now; clicking one presses it."""

    DEFAULT_CSS = """
    KeyBar {
        height: 1;
        background: $panel;
        color: $text-muted;
        padding: 0 1;
    }
    """
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._zones: list[tuple[int, int, str]] = []
        self._shown: tuple[list[Key], list[Key]] = ([], [])

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, screen: Screen[object]) -> None:
        if self.is_attached and screen is self.screen and self._available() != self._shown:
            self.refresh()

    def _available(self) -> tuple[list[Key], list[Key]]:
        """The keys on the left and those pinned right, one per action."""
        keys: dict[str, Key] = {}
        for _, binding, enabled, _ in in_declared_order(self.screen.active_bindings.values()):
            if binding.show and binding.description:
                display = self.app.get_key_display(binding)
                found = Key(binding.key, display, binding.description, enabled)
                keys.setdefault(binding.action, found)
        pinned = [keys.pop(action) for action in PINNED_RIGHT if action in keys]
        return list(keys.values()), pinned

    def render(self) -> Content:
        self._shown = left, right = self._available()
        self._zones = []
        width = self.size.width
        start = width - sum(each.cells for each in right) - GAP * max(0, len(right) - 1)
        line = Content("")
        for each in left:
            more = 0 if each is left[-1] else 1
            if line.cell_length + each.cells + GAP + more > start:
                before = max(0, start - len(MORE))
                line = Content.assemble(line.truncate(before, pad=True), (MORE, FAINT))
                break
            line = self._place_key(line, each, line.cell_length)
        for each in right:
            line = self._place_key(line, each, start)
            start += each.cells + GAP
        return line

    def _place_key(self, line: Content, key: Key, x: int) -> Content:
        """Add the key at column `x` and register its click zone."""
        self._zones.append((x, x + key.cells, key.key))
        gap = " " * (x - line.cell_length)
        return Content.assemble(line, gap, key.content, " " * GAP)

    def on_click(self, event: events.Click) -> None:
        x = event.get_content_offset_capture(self).x
        for start, end, key in self._zones:
            if start <= x < end:
                self.app.simulate_key(key)
                return

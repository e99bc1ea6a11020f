"""The line of keys at the bottom: one widget and one line, repainted only when the keys change."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from mlxft_tui.keys import KEPT_AT_THE_RIGHT
from mlxft_tui.theme import FAINT


Key = tuple[str, str, str, bool]
"""A key, how it is written, what it does, and whether it does so now."""


class KeyBar(Widget):
    """The keys that act here and now; a click on one is that key."""

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
        self._shown: tuple[tuple[Key, ...], tuple[Key, ...]] = ((), ())

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, screen: Screen[object]) -> None:
        if self.is_attached and screen is self.screen and self._present() != self._shown:
            self.refresh()

    def _present(self) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
        """The keys that act, once for each action, and those kept at the right."""
        keys: dict[str, Key] = {}
        for _, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and binding.description:
                display = self.app.get_key_display(binding)
                found = (binding.key, display, binding.description, enabled)
                keys.setdefault(binding.action, found)
        last = [keys.pop(action) for action in KEPT_AT_THE_RIGHT if action in keys]
        return tuple(keys.values()), tuple(last)

    def render(self) -> Content:
        self._shown = self._present()
        left, right = self._shown
        room = self.size.width - sum(_width(each) for each in right) - 2 * len(right)
        parts: list[Content | str] = []
        x = 0
        self._zones = []
        for each in left:
            if x + _width(each) > room:
                break
            parts += [_key(each), "  "]
            self._zones.append((x, x + _width(each), each[0]))
            x += _width(each) + 2
        start = self.size.width - sum(_width(each) for each in right) - 2 * (len(right) - 1)
        parts.append(" " * max(0, start - x))
        for each in right:
            parts += [_key(each), "  "]
            self._zones.append((start, start + _width(each), each[0]))
            start += _width(each) + 2
        return Content.assemble(*parts[:-1])

    def on_click(self, event: events.Click) -> None:
        x = event.get_content_offset_capture(self).x
        for start, end, key in self._zones:
            if start <= x < end:
                self.app.simulate_key(key)
                return


def _width(key: Key) -> int:
    return len(key[1]) + 1 + len(key[2])


def _key(key: Key) -> Content:
    _, display, description, enabled = key
    if not enabled:
        return Content.styled(f"{display} {description}", FAINT)
    return Content.assemble((display, "bold $primary"), " ", description)

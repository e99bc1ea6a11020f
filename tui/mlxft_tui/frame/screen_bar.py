"""The top line: the five screens with their keys, the current one highlighted."""

from __future__ import annotations

from pathlib import Path

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.widget import Widget

from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.keys import SCREENS, ScreenKey
from mlxft_tui.widgets.remappable import keys_of


class ScreenBar(Widget):
    """The screens; the current one is bright and in brackets."""

    DEFAULT_CSS = """
    ScreenBar {
        height: 1;
        background: $panel;
        color: $text-muted;
        padding: 0 1;
    }
    """
    ALLOW_SELECT = False

    def __init__(self, folder: Path, mode: str | None = None) -> None:
        """`mode` is the screen to highlight, by default the current one."""
        super().__init__()
        self._mode = mode
        self._folder = printable_line(figures.short_path(folder))

    def render(self) -> Content:
        parts: list[Content | str] = []
        for screen in SCREENS:
            key = self._display(screen)
            parts.append(
                Content.styled(f"[{key} {screen.title}]", "bold $foreground")
                if screen.mode == (self._mode or self.app.current_mode)
                else Content.assemble(" ", (key, "$primary"), f" {screen.title} ")
            )
            parts.append(" ")
        screens = Content.assemble(*parts)
        free = max(0, self.size.width - screens.cell_length - 1)
        folder = Content(self._folder).truncate(free, ellipsis=True)
        return screens.append(folder.pad_left(free - folder.cell_length))

    def _key(self, screen: ScreenKey) -> str:
        return keys_of(self, f"go.{screen.mode}", screen.key)[0]

    def _display(self, screen: ScreenKey) -> str:
        return self.app.get_key_display(Binding(self._key(screen), ""))

    def on_click(self, event: events.Click) -> None:
        x, start = event.get_content_offset_capture(self).x, 0
        for screen in SCREENS:
            end = start + len(f"[{self._display(screen)} {screen.title}]")
            if start <= x < end:
                self.app.simulate_key(self._key(screen))
                return
            start = end + 1

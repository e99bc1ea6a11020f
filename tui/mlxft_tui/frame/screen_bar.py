"""The top line: the five screens with their keys, the current one highlighted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.widget import Widget

from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.keys import SCREENS, ScreenKey
from mlxft_tui.text.cells import tail
from mlxft_tui.widgets.remappable import keys_of

LEAST_FOLDER: Final = 8
"""Fewest cells in which the end of the folder says something."""


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
        for screen, title in self._titles():
            key = self._display(screen)
            parts.append(
                Content.styled(f"[{key}{title}]", "bold $foreground")
                if self._is_current(screen)
                else Content.assemble(" ", (key, "$primary"), f"{title} ")
            )
            parts.append(" ")
        screens = Content.assemble(*parts)
        free = max(0, self.size.width - screens.cell_length - 1)
        fits = cell_len(self._folder) <= free or free >= LEAST_FOLDER
        folder = Content(tail(self._folder, free) if fits else "")
        return screens.append(folder.pad_left(free - folder.cell_length))

    def _titles(self) -> list[tuple[ScreenKey, str]]:
        """What follows each screen's key; only the current one has a title where not all fit."""
        titles = [(screen, f" {screen.title}") for screen in SCREENS]
        if sum(map(self._cells, titles)) + len(titles) - 1 <= self.size.width:
            return titles
        return [(each, title if self._is_current(each) else "") for each, title in titles]

    def _cells(self, titled: tuple[ScreenKey, str]) -> int:
        screen, title = titled
        return len(f"[{self._display(screen)}{title}]")

    def _is_current(self, screen: ScreenKey) -> bool:
        return screen.mode == (self._mode or self.app.current_mode)

    def _key(self, screen: ScreenKey) -> str:
        return keys_of(self, f"go.{screen.mode}", screen.key)[0]

    def _display(self, screen: ScreenKey) -> str:
        return self.app.get_key_display(Binding(self._key(screen), ""))

    def on_click(self, event: events.Click) -> None:
        x, start = event.get_content_offset_capture(self).x, 0
        for titled in self._titles():
            end = start + self._cells(titled)
            if start <= x < end:
                self.app.simulate_key(self._key(titled[0]))
                return
            start = end + 1

"""The top line: the five places with their keys, and which one this is."""

from __future__ import annotations

from pathlib import Path

from textual import events
from textual.content import Content
from textual.widget import Widget

from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.frame.keys import SCREENS


class ScreenBar(Widget):
    """The places; the present one is in brackets and bright."""

    DEFAULT_CSS = """
    ScreenBar {
        height: 1;
        background: $panel;
        color: $text-muted;
        padding: 0 1;
    }
    """
    ALLOW_SELECT = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = printable_line(figures.short_path(folder))

    def render(self) -> Content:
        parts: list[Content | str] = []
        for place in SCREENS:
            parts.append(
                Content.styled(f"[{place.key} {place.title}]", "bold $foreground")
                if place.mode == self.app.current_mode
                else Content.assemble(" ", (place.key, "$primary"), f" {place.title} ")
            )
            parts.append(" ")
        places = Content.assemble(*parts)
        room = self.size.width - places.cell_length - 1
        folder = Content(self._folder).truncate(max(0, room), ellipsis=True)
        return places.append(folder.pad_left(max(0, room - folder.cell_length)))

    def on_click(self, event: events.Click) -> None:
        x, start = event.get_content_offset_capture(self).x, 0
        for place in SCREENS:
            end = start + len(place.title) + 4
            if start <= x < end:
                self.app.simulate_key(place.key)
                return
            start = end + 1

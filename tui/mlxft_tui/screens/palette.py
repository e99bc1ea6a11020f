"""The palette of commands, without a blinking cursor."""

from __future__ import annotations

from textual.command import CommandPalette
from textual.widgets import Input


class Palette(CommandPalette):
    """Textual's own, quiet on a slow line."""

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False

"""The command palette, without a blinking cursor."""

from __future__ import annotations

from textual.command import CommandPalette, DiscoveryHit, Hits
from textual.theme import ThemeProvider
from textual.widgets import Input


class Palette(CommandPalette):
    """Textual's palette, made quiet for slow links."""

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False


class NamedThemes(ThemeProvider):
    """Finds themes by name among the commands; the Theme command lists them all."""

    async def discover(self) -> Hits:
        no_hits: tuple[DiscoveryHit, ...] = ()
        for each in no_hits:
            yield each

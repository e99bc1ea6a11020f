"""The palette of commands, without a blinking cursor."""

from __future__ import annotations

from textual.command import CommandPalette, DiscoveryHit, Hits
from textual.theme import ThemeProvider
from textual.widgets import Input


class Palette(CommandPalette):
    """Textual's own, quiet on a slow line."""

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False


class NamedThemes(ThemeProvider):
    """Themes among the commands, once their name is typed; a list of its own shows them all."""

    async def discover(self) -> Hits:
        no_hits: tuple[DiscoveryHit, ...] = ()
        for each in no_hits:
            yield each

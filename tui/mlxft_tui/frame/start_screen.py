"""The frame of the first screen, painted while everything else is imported."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from mlxft_tui.frame.key_bar import KeyBar
from mlxft_tui.frame.screen_bar import ScreenBar


class Blank(Widget):
    """An area to be filled."""

    DEFAULT_CSS = """
    Blank { height: 1; background: $surface; }
    Blank.-body { height: 1fr; background: $background; }
    """

    def render(self) -> str:
        return ""


class StartScreen(Screen[None]):
    """Looks like a screen of the application whose content hasn't been read."""

    def __init__(self, folder: Path, mode: str) -> None:
        super().__init__()
        self._folder = folder
        self._mode = mode

    def compose(self) -> ComposeResult:
        yield ScreenBar(self._folder, self._mode)
        yield Blank()
        yield Blank(classes="-body")
        yield KeyBar()

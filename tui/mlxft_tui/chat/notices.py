"""Notices of the chat screen."""

from __future__ import annotations

from textual.screen import Screen

from mlxft.text.printable import printable_line

SECONDS = 8


def inform(screen: Screen[None], text: str) -> None:
    """Show a notice."""
    screen.notify(printable_line(text), timeout=SECONDS, markup=False)


def warn(screen: Screen[None], problem: str) -> None:
    """Show a warning."""
    screen.notify(printable_line(problem), severity="warning", timeout=SECONDS, markup=False)

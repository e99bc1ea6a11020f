"""Notices in the corner of the screen: text as it is, without control characters or markup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlxft.text.printable import printable_line

if TYPE_CHECKING:
    from textual.app import App
    from textual.widget import Widget

    from mlxft.errors import MlxftError

    Shows = App[Any] | Widget

NOTE_SECONDS: Final = 5.0
"""How long a few words are shown."""

SENTENCE_SECONDS: Final = 15.0
"""How long something is shown that has to be read and acted on."""


def inform(shows: Shows, text: str, *, seconds: float = NOTE_SECONDS) -> None:
    """Show what was done."""
    shows.notify(printable_line(text), timeout=seconds, markup=False)


def warn(shows: Shows, problem: str) -> None:
    """Show what can't be done now, or only in part."""
    shows.notify(
        printable_line(problem), severity="warning", timeout=SENTENCE_SECONDS, markup=False
    )


def show_error(shows: Shows, error: MlxftError | str) -> None:
    """Show why something has failed: a sentence with its place and a remedy."""
    shows.notify(
        printable_line(str(error)), severity="error", timeout=SENTENCE_SECONDS, markup=False
    )

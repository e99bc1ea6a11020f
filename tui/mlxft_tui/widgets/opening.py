"""Why the model isn't there yet, in words."""

from __future__ import annotations

from textual.content import Content

from mlxft.runs.events import ProgressMade
from mlxft.text.printable import printable
from mlxft_tui.text.theme import MUTED


def opening_note(what: str, progress: ProgressMade | str | None) -> Content:
    """What can't be shown without the model, and how far it is or why it isn't."""
    if isinstance(progress, str):
        return Content.assemble((f"{what} needs the model: ", MUTED), printable(progress))
    return Content.styled(f"{what} needs the model, which is being opened.", MUTED)

"""Why something can't be shown before the model is open."""

from __future__ import annotations

from textual.content import Content

from mlxft.runs.events import ProgressMade
from mlxft.text.printable import printable
from mlxft_tui.text.theme import MUTED


def opening_note(what: str, progress: ProgressMade | str | None) -> Content:
    """A note that `what` needs the model, with the reason if opening it failed."""
    if isinstance(progress, str):
        return Content.assemble((f"{what} needs the model: ", MUTED), printable(progress))
    return Content.styled(f"{what} needs the model, which is opening.", MUTED)

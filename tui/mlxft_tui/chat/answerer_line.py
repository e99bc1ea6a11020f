"""Who can answer, and who does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxft_tui.text.cells import Row, Span, cropped
from mlxft_tui.widgets.cell_view import CellView


@dataclass(frozen=True)
class Speaker:
    """A side's word, who it is at this moment (empty: nobody), and whether it is asked."""

    word: str
    name: str
    asked: bool


class SideLine(CellView):
    """One line; who is asked is marked and bright, and how is said at the end."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._speakers: tuple[Speaker, ...] = ()
        self._manner = ""

    def show(self, speakers: tuple[Speaker, ...], manner: str) -> None:
        """Show these sides, and how they are asked."""
        self._speakers, self._manner = speakers, manner
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return [side_row(self._speakers, self._manner, width)]


def side_row(speakers: Sequence[Speaker], manner: str, width: int) -> Row:
    """The sides in so many cells."""
    runs: list[Span] = []
    for each in speakers:
        runs.append(("● " if each.asked else "○ ", "smooth" if each.asked else "faint"))
        runs.append((f"{each.word} ", "strong" if each.asked else "muted"))
        runs.append(((each.name or "none yet") + "   ", "plain" if each.asked else "muted"))
    runs.append((manner, "muted"))
    return cropped(tuple(runs), width)

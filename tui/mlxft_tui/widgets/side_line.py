"""Who can answer, and who does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxft_tui.cells import Row, Run, cropped
from mlxft_tui.dialogue import Side
from mlxft_tui.widgets.cell_view import CellView


@dataclass(frozen=True)
class SideState:
    """What each side is at this moment, empty if it isn't there, and who is asked."""

    adapter: str = ""
    base: str = ""
    asked: tuple[Side, ...] = ()


class SideLine(CellView):
    """One line; who is asked is marked and bright."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._state = SideState()

    def show(self, state: SideState) -> None:
        """Show these sides."""
        self._state = state
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return [side_row(self._state, width)]


def side_row(state: SideState, width: int) -> Row:
    """The sides in so many cells."""
    runs: list[Run] = []
    named: tuple[tuple[Side, str], ...] = (("adapter", state.adapter), ("base", state.base))
    for side, name in named:
        asked = side in state.asked
        runs.append(("● " if asked else "○ ", "smooth" if asked else "faint"))
        runs.append((f"{side} ", "strong" if asked else "muted"))
        runs.append(((name or "none yet") + "   ", "plain" if asked else "muted"))
    return cropped(tuple(runs), width)

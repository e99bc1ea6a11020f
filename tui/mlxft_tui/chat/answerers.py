"""Who is asked: a small sheet of all that can answer, of whom one or two are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from mlxft.chat.answerers import Side
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList
from mlxft_tui.widgets.remappable import Remappable

MOST_ASKED = 2
"""Who can answer side by side."""


class SideList(LineList, keys="answerers"):
    """A line for each side; space marks up to two."""

    HELP = """Who answers the next prompt: the base, the adapter, a checkpoint of this run, or the
    adapter or a checkpoint of another run of the same model. Two that are marked answer side by
    side, with the same seed."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", tooltip="Ask this one, beside another if you like"),
    ]

    def __init__(self, sides: Sequence[tuple[Side, str]], marked: Sequence[Side]) -> None:
        super().__init__()
        self._sides = tuple(sides)
        self._marked = [side for side in marked if side in dict(sides)]
        self._was_marked = False

    @property
    def chosen(self) -> tuple[Side, ...]:
        """Who was marked, in the order of the columns; without a mark who is under the cursor."""
        return tuple(self._marked) if self._was_marked else (self._sides[self.cursor][0],)

    def on_mount(self) -> None:
        self.count = len(self._sides)
        self.cursor = [side for side, _ in self._sides].index(self._marked[-1])

    def line(self, index: int, width: int) -> Content:
        side, words = self._sides[index]
        column = ""
        if side in self._marked and len(self._marked) == MOST_ASKED:
            column = "  left" if side == self._marked[0] else "  right"
        sign = ("● ", "$primary bold") if side in self._marked else ("○ ", MUTED)
        return Content.assemble(sign, words, (column, MUTED)).truncate(width, ellipsis=True)

    def action_mark(self) -> None:
        """Mark the side or unmark it; a third one takes the place of the first."""
        side, self._was_marked = self._sides[self.cursor][0], True
        if side not in self._marked:
            self._marked = [*self._marked, side][-MOST_ASKED:]
        elif len(self._marked) > 1:
            self._marked.remove(side)
        self.refresh()


class AnswererDialog(Remappable, ModalScreen[tuple[Side, ...] | None], keys="answerers"):
    """Answers with who is to be asked, the left column first; None leaves it as it was."""

    CSS_PATH = "answerers.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "As before", id="cancel"),
    ]

    def __init__(self, sides: Sequence[tuple[Side, str]], marked: Sequence[Side]) -> None:
        super().__init__()
        self._list = SideList(sides, marked)

    def compose(self) -> ComposeResult:
        with Vertical(id="answerers") as sheet:
            sheet.border_title = "who answers"
            sheet.border_subtitle = "enter asks this one  space marks two  esc as before"
            yield self._list

    @on(LineList.Chosen)
    def _keep(self) -> None:
        self.dismiss(self._list.chosen)

    def action_leave(self) -> None:
        """Close without a change."""
        self.dismiss(None)

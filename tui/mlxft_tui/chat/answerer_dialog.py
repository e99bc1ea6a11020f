"""A dialog to choose one or two models that answer the next prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from mlxft.chat.answerers import Answerer
from mlxft_tui.frame.sheet import Sheet
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

MOST_MARKED = 2
"""How many can answer side by side."""


class AnswererList(LineList, keys="models"):
    """One line per answerer; space marks up to two."""

    HELP = """The base model, this run's adapter and checkpoints, and those of other runs of the
    same model. Two marked ones answer side by side with the same seed."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", tooltip="Mark one or two that answer"),
    ]

    def __init__(
        self, answerers: Sequence[tuple[Answerer, str]], marked: Sequence[Answerer]
    ) -> None:
        super().__init__()
        self._answerers = tuple(answerers)
        self._marked = [each for each in marked if each in dict(answerers)]
        self._has_marks = False

    @property
    def chosen(self) -> tuple[Answerer, ...]:
        """The marked ones in column order; the one at the cursor if marks weren't changed."""
        return tuple(self._marked) if self._has_marks else (self._answerers[self.cursor][0],)

    def on_mount(self) -> None:
        self.count = len(self._answerers)
        self.cursor = [each for each, _ in self._answerers].index(self._marked[-1])

    def line(self, index: int, width: int) -> Content:
        answerer, words = self._answerers[index]
        column = ""
        if answerer in self._marked and len(self._marked) == MOST_MARKED:
            column = "  left" if answerer == self._marked[0] else "  right"
        sign = ("● ", "$primary bold") if answerer in self._marked else ("○ ", MUTED)
        return Content.assemble(sign, words, (column, MUTED)).truncate(width, ellipsis=True)

    def action_mark(self) -> None:
        """Mark or unmark the line; a third mark replaces the first."""
        answerer, self._has_marks = self._answerers[self.cursor][0], True
        if answerer not in self._marked:
            self._marked = [*self._marked, answerer][-MOST_MARKED:]
        elif len(self._marked) > 1:
            self._marked.remove(answerer)
        self.refresh()


class AnswererDialog(Sheet[tuple[Answerer, ...]], keys="models"):
    """Returns the chosen answerers, left column first; None if cancelled."""

    CSS_PATH = "answerer_dialog.tcss"
    CLICK_ACCEPTS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Choose", priority=True),
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(
        self, answerers: Sequence[tuple[Answerer, str]], marked: Sequence[Answerer]
    ) -> None:
        super().__init__()
        self._list = AnswererList(answerers, marked)

    def compose(self) -> ComposeResult:
        with Vertical(id="models") as dialog:
            dialog.border_title = "models"
            yield self._list

    def shown(self) -> tuple[Answerer, ...]:
        return self._list.chosen

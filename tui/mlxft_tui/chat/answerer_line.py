"""The line above the conversation: the two models, and which of them answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxft_tui.text.cells import Row, Span, cropped
from mlxft_tui.widgets.cell_view import CellView


@dataclass(frozen=True)
class AnswererState:
    """An answerer as shown in the line."""

    kind: str
    name: str
    """Its model, run or step; empty if it doesn't exist yet."""
    asked: bool
    """Whether it answers the next prompt."""


class AnswererLine(CellView):
    """One line; the models that answer are marked, the settings follow at the end."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._states: tuple[AnswererState, ...] = ()
        self._settings = ""

    def show(self, states: tuple[AnswererState, ...], settings: str) -> None:
        """Show the answerers and the settings."""
        self._states, self._settings = states, settings
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return [answerer_row(self._states, self._settings, width)]


def answerer_row(states: Sequence[AnswererState], settings: str, width: int) -> Row:
    """The line, cropped at `width` cells."""
    spans: list[Span] = []
    for each in states:
        spans.append(("● " if each.asked else "○ ", "smooth" if each.asked else "faint"))
        spans.append((f"{each.kind} ", "strong" if each.asked else "muted"))
        spans.append(((each.name or "none yet") + "   ", "plain" if each.asked else "muted"))
    spans.append((settings, "muted"))
    return cropped(tuple(spans), width)

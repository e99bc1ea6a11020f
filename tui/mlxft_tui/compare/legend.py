"""The compared runs with their colours and the figure that the plot shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from textual.content import Content

from mlxft.runs.followed import FollowedRun
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.plot.overlay import LONG_NUMBER_MARK
from mlxft_tui.text.cells import shortened
from mlxft_tui.text.theme import FAINT, MUTED
from mlxft_tui.widgets.cell_view import is_ascii_only
from mlxft_tui.widgets.line_list import LineList

RUN_STYLES: Final = ("$primary", "$accent", "$success", "$error", "$warning", "$foreground 70%")
"""The colours of the first runs, as the plot has them."""

VALUE_CELLS: Final = 9
BEST_CELLS: Final = 26
BEST_FROM: Final = 60
"""Width from which a run's best validation is shown too."""


def run_style(number: int) -> str:
    """The colour of a run."""
    return RUN_STYLES[number] if number < len(RUN_STYLES) else "$secondary"


def run_label(number: int, name: str, cells: int) -> Content:
    """A run's number and name in its colour, in so many cells."""
    text = f"{number + 1} "
    text += shortened(printable_line(name), cells - len(text))
    return Content.styled(text, run_style(number)).truncate(cells, ellipsis=True, pad=True)


def _mark(number: int) -> str:
    """A piece of the run's curve, which without braille is drawn with the digit that follows."""
    if not is_ascii_only():
        return "━"
    return "-" if number < 9 else LONG_NUMBER_MARK


class Legend(LineList):
    """One line per run; the one under the cursor is drawn over the others."""

    HELP = """The compared runs. The figure is that of the plot: under the crosshair, or the
    latest, of the loss that of the last report; best val is the lowest validation loss and its
    step."""

    def __init__(self) -> None:
        super().__init__(id="legend")
        self._runs: tuple[FollowedRun, ...] = ()
        self._names: tuple[str, ...] = ()
        self._values: Sequence[float | None] = ()
        self._hidden: frozenset[int] = frozenset()
        self._format: Callable[[float], str] = figures.loss

    def show(self, runs: tuple[FollowedRun, ...], names: tuple[str, ...]) -> None:
        """Show these runs by these names."""
        self._runs, self._names = runs, names
        self.count = len(runs)
        self.refresh()

    def show_values(
        self,
        values: Sequence[float | None],
        hidden: frozenset[int],
        written: Callable[[float], str],
    ) -> None:
        """Show the figures, and which runs are left out of the plot."""
        self._values, self._hidden, self._format = values, hidden, written
        self.refresh()

    def line(self, index: int, width: int) -> Content:
        run = self._runs[index]
        is_hidden = index in self._hidden
        value = self._values[index] if index < len(self._values) else None
        cells = width - VALUE_CELLS - 4
        parts = [Content("")]
        best = run.view.best_validation
        if width >= BEST_FROM:
            cells -= BEST_CELLS
            text = f"best val {best.loss:.3f} @{best.step}" if best else ""
            parts = [Content.styled(text.rjust(BEST_CELLS), MUTED)]
        sign = ("  ", FAINT) if is_hidden else (f"{_mark(index)} ", run_style(index))
        label = run_label(index, self._names[index], max(4, cells))
        name = Content.styled(label.plain, FAINT) if is_hidden else label
        shown = figures.NONE if value is None else self._format(value)
        return Content.assemble(
            sign,
            name,
            shown.rjust(VALUE_CELLS),
            *parts,
        )

"""What the keys of a plot do, whichever runs it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from mlxft_tui.plot.figure_styles import OverlaidFigure
from mlxft_tui.plot.options import PlotOptions
from mlxft_tui.widgets.cell_view import CellView

Options = TypeVar("Options", bound=PlotOptions)


class PlotView(CellView, Generic[Options]):
    """A plot of one figure at a time, with a crosshair and a zoom."""

    def __init__(self, options: Options, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self.options = options

    def figures(self) -> Sequence[OverlaidFigure]:
        """The figures that there are to show."""
        raise NotImplementedError

    def move_cursor(self, columns: int) -> None:
        """Move the crosshair by columns."""
        raise NotImplementedError

    def next_figure(self) -> None:
        """Cycle through the figures."""
        names = self.figures()
        at = names.index(self.options.figure) if self.options.figure in names else -1
        self.apply(replace(self.options, figure=names[(at + 1) % len(names)]))

    def toggle_log(self) -> None:
        """Linear or logarithmic."""
        self.apply(replace(self.options, log=not self.options.log))

    def next_x_axis(self) -> None:
        """Over steps, tokens, or time."""
        self.apply(self.options.next_x_axis())

    def smoother(self, direction: int) -> None:
        """Smooth more or less."""
        self.apply(self.options.smoother(direction))

    def zoom(self, direction: int) -> None:
        """Show half or twice as much of the x axis; 0 shows all and removes the crosshair."""
        zoomed = self.options.zoomed(direction)
        if direction <= 0 or self.can_zoom(zoomed.halvings):
            self.apply(zoomed)

    def can_zoom(self, halvings: int) -> bool:
        """Whether enough is left to show after so many halvings."""
        return True

    def leave_cursor(self) -> bool:
        """Remove the crosshair; False if there is none."""
        if self.options.cursor is None:
            return False
        self.apply(replace(self.options, cursor=None))
        return True

    def apply(self, options: Options) -> None:
        """Draw by these options."""
        self.options = options
        self.draw()

    def draw(self) -> None:
        """Draw the plot as it is now."""
        raise NotImplementedError

"""A small curve with its current value: a figure that the large plot doesn't show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mlxft.runs.steps import Steps
from mlxft.text import figures
from mlxft_tui.plot import curves
from mlxft_tui.plot.axes import axes_around
from mlxft_tui.plot.canvas import curve_rows, draw
from mlxft_tui.plot.curves import Figure
from mlxft_tui.plot.run_plot import FIGURES, Window
from mlxft_tui.plot.series import Series
from mlxft_tui.text.cells import Row, heading
from mlxft_tui.widgets.cell_view import CellView

SMOOTHED: Final[Mapping[Figure, int]] = {"loss": 10, "speed": 10}
"""Steps averaged over for noisy figures; a gradient's spikes must stay visible."""

LABELLED: Final = (30, 9)
"""Width and height from which axes with labels fit."""


class Trend(CellView):
    """One figure over the large plot's x range: title, value, curve."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._shown: tuple[Steps, Figure, Window] | None = None

    def show(self, steps: Steps, figure: Figure, window: Window) -> None:
        """Draw the figure; the value is the one at the crosshair, or the latest."""
        self._shown = (steps, figure, window)
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        if self._shown is None:
            return ()
        return trend_rows(*self._shown, width=width, height=height, ascii_only=self.ascii_only)


def trend_rows(
    steps: Steps,
    figure: Figure,
    window: Window,
    *,
    width: int,
    height: int,
    ascii_only: bool = False,
) -> list[Row]:
    """Title and curve, with axes where they fit."""
    style = FIGURES[figure]
    curve = curves.curve(steps, figure, window.over, SMOOTHED.get(figure, 1))
    last = window.point if window.point is not None else len(steps) - 1
    at = int(curve.point.searchsorted(last, "right")) - 1
    value = style.format(float(curve.smooth[at])) if at >= 0 else figures.NONE
    title = heading(((style.title + " ", "muted"), (value, "plain")), (), width)
    series = [Series(curve.x, curve.smooth, "other")]
    axes = axes_around(series, window.low, window.high, x_unit=window.over, y_unit=style.unit)
    if width >= LABELLED[0] and height >= LABELLED[1]:
        return [title, *draw(series, axes, width, height - 1, ascii_only=ascii_only)]
    return [title, *curve_rows(series, axes, width, height - 1, ascii_only)]

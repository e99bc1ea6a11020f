"""A small curve with its current value: a figure that the large plot doesn't show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft_tui.plot import curves
from mlxft_tui.plot.axes import axes_around
from mlxft_tui.plot.canvas import curve_rows, draw
from mlxft_tui.plot.curves import Curve, Figure
from mlxft_tui.plot.figure_styles import FIGURES
from mlxft_tui.plot.run_plot import Window
from mlxft_tui.plot.series import Series
from mlxft_tui.text.cells import Row, heading
from mlxft_tui.widgets.cell_view import CellView

SMOOTHED: Final[Mapping[Figure, int]] = {
    "loss": 10,
    "speed": 10,
    **dict.fromkeys(curves.PREFERENCE, 10),
}
"""Steps averaged over for noisy figures; a gradient's spikes must stay visible."""

LABELLED: Final = (30, 9)
"""Width and height from which axes with labels fit."""


class Trend(CellView):
    """One figure over the large plot's x range: title, value, curve."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self._shown: tuple[RunView, Figure, Window] | None = None

    def show(self, view: RunView, figure: Figure, window: Window) -> None:
        """Draw the figure; the value is the one at the crosshair, or the latest."""
        self._shown = (view, figure, window)
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        if self._shown is None:
            return ()
        return trend_rows(*self._shown, width=width, height=height, ascii_only=self.ascii_only)


def trend_rows(
    view: RunView,
    figure: Figure,
    window: Window,
    *,
    width: int,
    height: int,
    ascii_only: bool = False,
) -> list[Row]:
    """Title and curve, with axes where they fit."""
    style = FIGURES[figure]
    curve = curves.curve(view.steps, figure, window.over, SMOOTHED.get(figure, 1))
    value = _value(view, figure, curve, window.point)
    shown = style.format(value) if value is not None else figures.NONE
    title = heading(((style.title + " ", "muted"), (shown, "plain")), (), width)
    series = [Series(curve.x, curve.smooth, "other")]
    axes = axes_around(series, window.low, window.high, x_unit=window.over, y_unit=style.unit)
    if width >= LABELLED[0] and height >= LABELLED[1]:
        return [title, *draw(series, axes, width, height - 1, ascii_only=ascii_only)]
    return [title, *curve_rows(series, axes, width, height - 1, ascii_only)]


def _value(view: RunView, figure: Figure, curve: Curve, point: int | None) -> float | None:
    """The figure at the crosshair, a loss unsmoothed; else the last report's loss, or the latest
    value."""
    if figure == "loss" and point is None:
        return view.loss
    last = point if point is not None else len(view.steps) - 1
    at = int(curve.point.searchsorted(last, "right")) - 1
    if at < 0:
        return None
    return float(curve.raw[at] if figure == "loss" else curve.smooth[at])

"""A small curve with its present figure: speed, learning rate, gradient, memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlxft_tui.cells import Row, heading
from mlxft_tui.chart import Series, axes_around, curve_rows, x_end
from mlxft_tui.widgets.cell_view import CellView


class Trend(CellView):
    """One figure over the steps: its title, its value now, and how it went."""

    def __init__(
        self,
        title: str,
        write: Callable[[float], str],
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id)
        self._title = title
        self._write = write
        self._series = Series((), (), "other")
        self._limit: float | None = None

    def show(self, series: Series, limit: float | None) -> None:
        """Draw the series; `limit` is the last x there will ever be."""
        self._series, self._limit = series, limit
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        series = self._series
        if not len(series.x):
            return [heading(((self._title + " —", "muted"),), (), width)]
        value = self._write(float(series.y[-1]))
        title = heading(((self._title + " ", "muted"), (value, "plain")), (), width)
        axes = axes_around([series], 0.0, x_end(float(series.x[-1]), self._limit))
        return [title, *curve_rows([series], axes, width, height - 1, self.ascii_only)]

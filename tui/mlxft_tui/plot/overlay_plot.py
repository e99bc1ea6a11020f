"""The plot of several runs, computed in a thread so that no key waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from textual import work
from textual.message import Message

from mlxft_tui.plot import overlay
from mlxft_tui.plot.axes import LABEL_WIDTH
from mlxft_tui.plot.figure_styles import OverlaidFigure
from mlxft_tui.plot.overlay import XY, OverlayOptions
from mlxft_tui.plot.plot_view import PlotView
from mlxft_tui.text.cells import Row

if TYPE_CHECKING:
    from mlxft.runs.view import RunView

_HOW: Final = ("figure", "over", "smoothing")
"""The options that curves depend on."""


class OverlayPlot(PlotView[OverlayOptions]):
    """One figure of all runs, with a crosshair and a zoom."""

    class Drawn(Message):
        """The curves are on screen, and the values under the crosshair are known."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(OverlayOptions(), id)
        self._views: tuple[RunView, ...] = ()
        self._curves: dict[int, XY] = {}
        """By the identity of a run's view; of the options in `_how` only."""
        self._how: tuple[object, ...] = ()
        self._chart: tuple[Row, ...] = ()
        self._chart_size = (0, 0)

    def show(self, views: Sequence[RunView]) -> None:
        """Draw these runs."""
        self._views = tuple(views)
        self.draw()

    def values(self) -> list[float | None]:
        """Each run's figure under the crosshair, or its latest; None where it isn't known yet."""
        found = (self._curves.get(id(view)) for view in self._views)
        return [each.at(self.options.cursor) if each else None for each in found]

    def highlight(self, number: int) -> None:
        """Draw a run over the others."""
        if number != self.options.highlighted:
            self.apply(replace(self.options, highlighted=number))

    def toggle(self, number: int) -> None:
        """Leave a run out, or draw it again."""
        self.apply(replace(self.options, hidden=self.options.hidden ^ {number}))

    def figures(self) -> Sequence[OverlaidFigure]:
        return overlay.figures_of(self._views)

    def move_cursor(self, columns: int) -> None:
        """Move the crosshair by columns, from the right end if there is none."""
        low, high = overlay.x_limits(list(self._curves.values()), self.options)
        last = max((each.end for each in self._curves.values()), default=0.0)
        column = (high - low) / max(1, self.size.width - LABEL_WIDTH - 1)
        at = last if self.options.cursor is None else self.options.cursor + columns * column
        self.apply(replace(self.options, cursor=min(max(at, 0.0), last)))

    def on_resize(self) -> None:
        super().on_resize()
        self.draw()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        title = overlay.title_row(self.options, width)
        return [title, *(self._chart if self._chart_size == (width, height) else ())]

    def draw(self) -> None:
        """Paint the title now, and the chart once a thread has drawn it."""
        if self.size and self.is_attached:
            self.repaint()
            self._draw_chart()

    @work(exclusive=True, group="overlay")
    async def _draw_chart(self) -> None:
        options, views, (width, height) = self.options, self._views, self.size
        how = tuple(getattr(options, each) for each in _HOW)
        known = self._curves if how == self._how else {}

        def drawn() -> tuple[dict[int, XY], list[Row]]:
            found = {id(each): known.get(id(each)) or _curve(each, options) for each in views}
            in_order = [found[id(each)] for each in views]
            rows = overlay.overlay_rows(
                in_order,
                options,
                width=width,
                height=height,
                ascii_only=self.ascii_only,
                numbered=self.app.no_color,
            )
            return found, rows

        self._curves, rows = await asyncio.to_thread(drawn)
        self._how = how
        self._chart, self._chart_size = tuple(rows[1:]), (width, height)
        self.repaint()
        self.post_message(self.Drawn())


def _curve(view: RunView, options: OverlayOptions) -> XY:
    return overlay.curve_of(view, options.figure, options.over, options.smoothing)

"""A figure of several runs in one plot, each in its colour; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from mlxft.runs.view import RunView
from mlxft_tui.plot import curves
from mlxft_tui.plot.axes import LABEL_HEIGHT, LABEL_WIDTH, Axes, axes_around, x_end
from mlxft_tui.plot.canvas import framed
from mlxft_tui.plot.curves import XAxis
from mlxft_tui.plot.figure_styles import OVERLAID, OverlaidFigure
from mlxft_tui.plot.options import PlotOptions, x_text
from mlxft_tui.plot.raster import raster
from mlxft_tui.plot.run_plot import TITLE_RULES
from mlxft_tui.plot.series import Series
from mlxft_tui.text.cells import Role, Row, Span, heading, separated, width_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RUN_ROLES: Final[tuple[Role, ...]] = ("run_1", "run_2", "run_3", "run_4", "run_5", "run_6")
"""The colours of the first runs; all others share one."""

LONG_NUMBER_MARK: Final = "*"
"""The character, on a terminal without braille, of runs whose number has two digits."""


@dataclass(frozen=True)
class XY:
    """A figure of a run over the x axis."""

    x: Floats
    y: Floats
    end: float = 0.0
    """Where the run ends."""

    def at(self, x: float | None) -> float | None:
        """The figure at x, or the latest; None where the run has none."""
        import numpy as np

        if not len(self.x) or (x is not None and x > self.end):
            return None
        found = len(self.x) - 1 if x is None else int(np.searchsorted(self.x, x, "right")) - 1
        return float(self.y[found]) if found >= 0 else None


@dataclass(frozen=True, kw_only=True)
class OverlayOptions(PlotOptions):
    """How the curves are drawn; `cursor` is the x value under the crosshair."""

    highlighted: int = 0
    """The run that is drawn over all others."""
    hidden: frozenset[int] = frozenset()
    """The runs that are left out."""

    def next_x_axis(self) -> Self:
        """Over steps, tokens, or time; the crosshair would be elsewhere."""
        return replace(super().next_x_axis(), cursor=None)


def figures_of(views: Sequence[RunView]) -> list[OverlaidFigure]:
    """The figures that at least one of the runs has."""
    return [figure for figure in OVERLAID if any(_has(view, figure) for view in views)] or ["loss"]


def _has(view: RunView, figure: OverlaidFigure) -> bool:
    if figure == "validation":
        return bool(view.validations)
    return bool(view.steps) and curves.has(view.steps, figure)


def curve_of(view: RunView, figure: OverlaidFigure, over: XAxis, smoothing: float) -> XY:
    """A run's figure, smoothed if it is noisy."""
    import numpy as np

    end = float(curves.x_positions(view.steps, over)[-1]) if view.steps else 0.0
    if figure == "validation":
        points = curves.validation_points(view, over, "")
        return XY(np.asarray(points.x, dtype=float), np.asarray(points.y, dtype=float), end)
    if not view.steps or not curves.has(view.steps, figure):
        return XY(np.zeros(0), np.zeros(0))
    found = curves.curve(view.steps, figure, over, smoothing)
    return XY(found.x, found.smooth, end)


def role_of(number: int) -> Role:
    """The colour of a run."""
    return RUN_ROLES[number] if number < len(RUN_ROLES) else "other"


def x_limits(found: Sequence[XY], options: OverlayOptions) -> tuple[float, float]:
    """The visible part of the x axis."""
    last = max((each.end for each in found), default=0.0)
    end = x_end(last, least=1.0)
    return options.visible(last, end, options.cursor)


def overlay_rows(
    found: Sequence[XY],
    options: OverlayOptions,
    *,
    width: int,
    height: int,
    ascii_only: bool = False,
    numbered: bool = False,
) -> list[Row]:
    """Title and chart of all curves that aren't hidden, `numbered` where there are no colours."""
    title = title_row(options, width)
    columns, lines = width - LABEL_WIDTH, height - 1 - LABEL_HEIGHT
    if columns < 4 or lines < 2:
        return [title]
    order = [each for each in range(len(found)) if each not in options.hidden]
    # The last is drawn over the others.
    order.sort(key=lambda each: each == options.highlighted)
    series = [Series(found[each].x, found[each].y, _drawn_role(each, options)) for each in order]
    axes = _axes(series, found, options)
    numbers = [str(each + 1) for each in order] if numbered or ascii_only else ()
    marks = [each if len(each) == 1 else LONG_NUMBER_MARK for each in numbers]
    if not ascii_only:
        marks = []
    cells = raster(series, axes, columns, lines, marks, numbers)
    return [title, *framed(cells, axes, cursor=options.cursor, ascii_only=ascii_only)]


def _drawn_role(number: int, options: OverlayOptions) -> Role:
    is_grey = number >= len(RUN_ROLES)
    return "strong" if is_grey and number == options.highlighted else role_of(number)


def _axes(series: Sequence[Series], found: Sequence[XY], options: OverlayOptions) -> Axes:
    low, high = x_limits(found, options)
    return axes_around(
        series,
        low,
        high,
        log=options.log,
        x_unit=options.over,
        y_unit=OVERLAID[options.figure].unit,
    )


def title_row(options: OverlayOptions, width: int) -> Row:
    """The figure, where the crosshair is, and how it is drawn."""
    spans: list[Span] = [(OVERLAID[options.figure].title, "strong")]
    if options.cursor is not None:
        spans.append((f"  at {x_text(options.cursor, options.over)}", "plain"))
    parts = list(options.described().values())
    parts.append(((f"over {'steps' if options.over == 'step' else options.over}", "muted"),))
    while parts and width_of(separated(parts, "  ")) > width - width_of(tuple(spans)) - TITLE_RULES:
        del parts[0]
    return heading(tuple(spans), separated(parts, "  "), width)

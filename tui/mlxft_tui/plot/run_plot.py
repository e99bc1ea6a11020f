"""A figure of a run as a curve: smoothed, zoomed, with a crosshair and earlier runs overlaid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.plot import curves
from mlxft_tui.plot.axes import LABEL_WIDTH, Axes, axes_around, x_end
from mlxft_tui.plot.canvas import draw, strips
from mlxft_tui.plot.curves import Curve, EarlierRun, Figure, XAxis
from mlxft_tui.plot.figure_styles import FIGURES
from mlxft_tui.plot.options import PlotOptions, x_text
from mlxft_tui.plot.plot_view import PlotView
from mlxft_tui.plot.series import Series
from mlxft_tui.text.cells import Role, Row, Span, cropped, heading, separated, width_of
from mlxft_tui.widgets.apart import call_apart

LEAST_POINTS: Final = 8
"""Fewest points that a zoomed curve may show."""
EARLIER_ROLES: Final[tuple[Role, ...]] = ("first", "second", "third")
"""The roles of overlaid runs, and so how many there may be."""
TITLE_RULES: Final = 6
"""Cells of the title line besides its two texts."""
LEAST_FIRST: Final = ("best", "validation", "smoothing", "zoom", "scale", "over")
"""Parts dropped from the title where it is too narrow, in this order."""


def figures_of(steps: Steps) -> list[Figure]:
    """The figures that a run has, in order."""
    return [each for each in FIGURES if curves.has(steps, each)]


@dataclass(frozen=True)
class Window:
    """The visible part of the x axis, and the index of the point under the crosshair."""

    over: XAxis
    low: float
    high: float
    point: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunPlotOptions(PlotOptions):
    """How a run's curve is drawn; `cursor` is the step under the crosshair."""

    figure: Figure = "loss"
    frozen: bool = False


class RunPlot(PlotView[RunPlotOptions]):
    """The raw figure dim, the smoothed one bright; for the loss also the validations."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(RunPlotOptions(), id)
        self._view = RunView()
        self._earlier: tuple[EarlierRun, ...] = ()
        self._curve: tuple[Steps, CurveOptions, Curve] | None = None
        self._overlaid: tuple[object, list[EarlierCurve]] = ((), [])
        self._latest: Drawing | None = None
        """What is being drawn."""

    def show(self, view: RunView) -> None:
        """Draw the run as it is now."""
        before, self._view = self._view, view
        if view.steps and not curves.has(view.steps, self.options.figure):
            self.options = replace(self.options, figure="loss")
        if _fingerprint(before) != _fingerprint(view):
            self.draw()

    def overlay(self, earlier: Sequence[EarlierRun]) -> None:
        """Draw these runs behind the current one."""
        self._earlier = tuple(earlier[: len(EARLIER_ROLES)])
        self.draw()

    def figures(self) -> Sequence[Figure]:
        return figures_of(self._view.steps)

    def window(self) -> Window:
        """The visible part of the x axis, for the smaller charts beside it."""
        shown = self._current_curve()
        low, high = x_range(self._view, shown, self.options)
        at = _cursor(shown, self.options)
        return Window(self.options.over, low, high, None if at is None else int(shown.point[at]))

    def can_zoom(self, halvings: int) -> bool:
        return len(self._view.steps) >> halvings >= LEAST_POINTS

    def move_cursor(self, columns: int) -> None:
        """Move the crosshair by columns, at least to the next step."""
        import numpy as np

        shown = self._current_curve()
        if not len(shown.x):
            return
        last = len(shown.x) - 1
        current = _cursor(shown, self.options)
        at = last if current is None else current
        options = replace(self.options, cursor=float(shown.step[at]))
        low, high = x_range(self._view, shown, options)
        column = (high - low) / max(1, self.size.width - LABEL_WIDTH - 1)
        target = shown.x[at] + columns * column
        nearest = int(np.searchsorted(shown.x, target))
        least = at + (1 if columns > 0 else -1)
        moved = max(nearest, least) if columns > 0 else min(nearest, least)
        self.apply(replace(self.options, cursor=float(shown.step[min(max(moved, 0), last)])))

    def freeze(self, frozen: bool) -> None:
        """Mark the view as frozen in the title."""
        self.apply(replace(self.options, frozen=frozen))

    def rows(self, width: int, height: int) -> Sequence[Row]:
        return self._drawing(width, height).rows()

    def _drawing(self, width: int, height: int) -> Drawing:
        return drawing(
            self._view,
            self._current_curve(),
            self._earlier_curves(),
            self.options,
            width=width,
            height=height,
            ascii_only=self.ascii_only,
        )

    def draw(self) -> None:
        """Paint the title now, and the chart once its parts are drawn, between other keys."""
        if not self.size:
            return
        self._latest = latest = self._drawing(*self.size)
        self.show_rows([*latest.head, *self.visible_rows[len(latest.head) :]])
        parts = [partial(self._draw_part, latest, part) for part in latest.parts()]
        call_apart(self, *parts, partial(self._draw_part, latest, self.repaint))

    def _draw_part(self, of: Drawing, part: Callable[[], object]) -> None:
        if of is self._latest:
            part()

    def _current_curve(self) -> Curve:
        """The curve, computed again only for new steps or options."""
        steps, how = self._view.steps, _curve_options(self.options)
        if self._curve is None or self._curve[0] is not steps or self._curve[1] != how:
            self._curve = steps, how, curves.curve(steps, *how)
        return self._curve[2]

    def _earlier_curves(self) -> list[EarlierCurve]:
        """The earlier runs' curves, computed again only for other runs or options."""
        how = _curve_options(self.options)
        wanted = (tuple(map(id, self._earlier)), how)
        if self._overlaid[0] != wanted:
            found = [(each.name, curves.curve(each.steps, *how)) for each in self._earlier]
            self._overlaid = (wanted, found)
        return self._overlaid[1]


CurveOptions = tuple[Figure, XAxis, int]
"""Figure, x axis and smoothing."""


def _curve_options(options: RunPlotOptions) -> CurveOptions:
    return options.figure, options.over, options.smoothing


def _cursor(shown: Curve, options: RunPlotOptions) -> int | None:
    """The index of the point under the crosshair; None without a crosshair.

    Not every early step of a long run has a point; then the next one that has.
    """
    if options.cursor is None or not len(shown.x):
        return None
    return min(int(shown.step.searchsorted(options.cursor)), len(shown.x) - 1)


def _fingerprint(view: RunView) -> tuple[object, ...]:
    """Changes whenever the plot of a run does; a journal only grows, so lengths are enough."""
    return id(view.steps), len(view.validations), view.iters


EarlierCurve = tuple[str, Curve]
"""An earlier run's name and its curve."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A plot that is ready to be drawn: title, legend of the earlier runs, and chart."""

    head: Sequence[Row]
    series: Sequence[Series]
    axes: Axes
    width: int
    height: int
    """Of the chart."""
    cursor: float | None
    ticks: Sequence[tuple[float, str, Role]]
    ascii_only: bool

    def parts(self) -> list[Callable[[], object]]:
        """The parts of the work that `rows` does, to be done before it one at a time."""
        return strips(self.series, self.axes, self.width, self.height, ascii_only=self.ascii_only)

    def rows(self) -> list[Row]:
        """The whole plot."""
        chart = draw(
            self.series,
            self.axes,
            self.width,
            self.height,
            cursor=self.cursor,
            ticks=self.ticks,
            ascii_only=self.ascii_only,
        )
        return [*self.head, *chart]


def drawing(
    view: RunView,
    shown: Curve,
    earlier: Sequence[EarlierCurve],
    options: RunPlotOptions,
    *,
    width: int,
    height: int,
    ascii_only: bool = False,
) -> Drawing:
    """The plot of a run, in so many cells."""
    cursor = _cursor(shown, options)
    value = _value(view, shown, cursor, options)
    head = [heading(value, _how(view, options, width - width_of(value) - TITLE_RULES), width)]
    at = None if cursor is None else float(shown.x[cursor])
    if earlier:
        here = float(shown.x[-1]) if at is None and len(shown.x) else at
        head.append(cropped(_legend(earlier, here, options), width))
    series = _series(view, shown, earlier, options, ascii_only)
    low, high = x_range(view, shown, options)
    axes = axes_around(
        series,
        low,
        high,
        log=options.log,
        x_unit=options.over,
        y_unit=FIGURES[options.figure].unit,
    )
    best = view.best_validation
    ticks: list[tuple[float, str, Role]] = []
    if best is not None:
        place = curves.x_of_step(view.steps, options.over, best.step)
        ticks.append((place, "^" if ascii_only else "▲", "best"))
    return Drawing(
        head=head,
        series=series,
        axes=axes,
        width=width,
        height=height - len(head),
        cursor=at,
        ticks=ticks,
        ascii_only=ascii_only,
    )


def x_range(view: RunView, shown: Curve, options: RunPlotOptions) -> tuple[float, float]:
    """The visible part of the x axis."""
    last = float(shown.x[-1]) if len(shown.x) else 0.0
    limit = float(view.iters) if options.over == "step" and view.iters else None
    end = x_end(last, limit)
    at = _cursor(shown, options)
    return options.visible(last, end, None if at is None else float(shown.x[at]))


def _series(
    view: RunView,
    shown: Curve,
    earlier: Sequence[EarlierCurve],
    options: RunPlotOptions,
    ascii_only: bool,
) -> list[Series]:
    below = [
        Series(each.x, each.smooth, role)
        for (_, each), role in zip(earlier, EARLIER_ROLES, strict=False)
    ]
    if options.is_smoothed:
        below.append(Series(shown.x, shown.raw, "raw"))
    if options.figure in curves.OF_BOTH:
        rejected = _rejected(view, options)
        below.append(Series(rejected.x, rejected.smooth, "second"))
    below.append(Series(shown.x, shown.smooth, "smooth"))
    if options.figure == "loss":
        below.append(curves.validation_points(view, options.over, "o" if ascii_only else "●"))
    return below


def _rejected(view: RunView, options: RunPlotOptions) -> Curve:
    """The same figure of the rejected answers."""
    return curves.curve(view.steps, *_curve_options(options), rejected=True)


def _rejected_value(view: RunView, cursor: int | None, options: RunPlotOptions) -> list[Span]:
    """The rejected answers' figure under the crosshair, or its latest."""
    if options.figure not in curves.OF_BOTH:
        return []
    found = _rejected(view, options)
    at = len(found.x) - 1
    if cursor is not None:
        at = int(found.point.searchsorted(cursor, "right")) - 1
    if at < 0:
        return []
    value = found.smooth[-1] if cursor is None else found.raw[at]
    return [(f"  rejected {_formatted(float(value), options)}", "second")]


def _legend(earlier: Sequence[EarlierCurve], x: float | None, options: RunPlotOptions) -> Row:
    """The earlier runs with their smoothed figure at x, or else at their end."""
    import numpy as np

    smoothed = ", smoothed" if options.is_smoothed else ""
    runs: list[Span] = [(f"  earlier{smoothed}", "muted")]
    for number, ((name, each), role) in enumerate(zip(earlier, EARLIER_ROLES, strict=False), 1):
        at = len(each.x) - 1 if x is None else int(np.searchsorted(each.x, x, "right")) - 1
        value = _formatted(float(each.smooth[at]), options) if at >= 0 else figures.NONE
        runs += [(f"  {number} {printable_line(name)}", role), (f" {value}", "plain")]
    return tuple(runs)


def _how(view: RunView, options: RunPlotOptions, room: int) -> Row:
    """How the figure is drawn, without the least important parts if it is too narrow."""
    parts = _how_parts(view, options)
    while parts and width_of(separated(list(parts.values()), "  ")) > room:
        del parts[next(name for name in LEAST_FIRST if name in parts)]
    return separated(list(parts.values()), "  ")


def _how_parts(view: RunView, options: RunPlotOptions) -> dict[str, Row]:
    parts = options.described()
    if options.over != "step":
        parts["over"] = ((f"over {options.over}", "muted"),)
    if view.validations and options.figure == "loss":
        parts["validation"] = (("●", "validation"), (" validation", "muted"))
    if view.best_validation:
        parts["best"] = (("▲", "best"), (" best", "muted"))
    return parts


def _value(view: RunView, shown: Curve, cursor: int | None, options: RunPlotOptions) -> Row:
    runs: list[Span] = [(f"{FIGURES[options.figure].title} ", "strong")]
    if not len(shown.x):
        return (*runs, (figures.NONE, "muted"))
    at = len(shown.x) - 1 if cursor is None else cursor
    step = float(shown.step[at])
    runs.append(_figure_at(view, shown, None if cursor is None else at, options))
    runs += _rejected_value(view, None if cursor is None else int(shown.point[at]), options)
    runs.append((f"  step {step:.0f}", "muted"))
    if cursor is not None:
        if options.over != "step":
            runs.append((f"  {x_text(float(shown.x[at]), options.over)}", "muted"))
        if options.is_smoothed:
            smooth = _formatted(float(shown.smooth[at]), options)
            runs.append((f"  smoothed {smooth}", "smooth"))
        near = [each for each in view.validations if each.step == step]
        if near:
            runs.append((f"  val {figures.loss(near[-1].loss)}", "validation"))
        runs.append((_rate_and_gradient(view.steps, int(shown.point[at]), options), "muted"))
    if options.frozen:
        runs.append(("  FROZEN", "warning"))
    return tuple(runs)


def _figure_at(view: RunView, shown: Curve, cursor: int | None, options: RunPlotOptions) -> Span:
    """The step's own figure under the crosshair; else the loss of the last report, or the end of
    the curve."""
    if cursor is not None:
        return _formatted(float(shown.raw[cursor]), options), "strong"
    if options.figure == "loss":
        return figures.loss(view.loss), "strong"
    return _formatted(float(shown.smooth[-1]), options), "smooth"


def _formatted(value: float, options: RunPlotOptions) -> str:
    return FIGURES[options.figure].format(value)


def _rate_and_gradient(steps: Steps, point: int, options: RunPlotOptions) -> str:
    """Learning rate and gradient under the crosshair, besides the figure shown."""
    words = []
    if options.figure != "rate":
        words.append(f"  lr {figures.learning_rate(steps.learning_rate[point])}")
    if options.figure != "gradient" and math.isfinite(steps.gradient_norm[point]):
        words.append(f"  gradient {steps.gradient_norm[point]:.3g}")
    return "".join(words)

"""A figure of a run as a curve: smoothed, zoomed, with a crosshair and earlier runs overlaid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from mlxft.runs.smoothing import LOSS_SMOOTHING
from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.plot import curves
from mlxft_tui.plot.axes import LABEL_WIDTH, Axes, Unit, axes_around, x_end, x_window
from mlxft_tui.plot.canvas import draw, strips
from mlxft_tui.plot.curves import Curve, EarlierRun, Figure, XAxis
from mlxft_tui.plot.series import Series
from mlxft_tui.text.cells import Role, Row, Span, cropped, heading, separated, width_of
from mlxft_tui.widgets.apart import call_apart
from mlxft_tui.widgets.cell_view import CellView

SMOOTHINGS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Steps averaged over; 1 is the raw figure."""
X_AXES: Final[tuple[XAxis, ...]] = ("step", "tokens", "time")
MOST_HALVINGS: Final = 12
LEAST_POINTS: Final = 8
"""Fewest points that a zoomed curve may show."""
EARLIER_ROLES: Final[tuple[Role, ...]] = ("first", "second", "third")
"""The roles of overlaid runs, and so how many there may be."""
TITLE_RULES: Final = 6
"""Cells of the title line besides its two texts."""
LEAST_FIRST: Final = ("best", "validation", "smoothing", "zoom", "scale", "over")
"""Parts dropped from the title where it is too narrow, in this order."""


@dataclass(frozen=True)
class FigureStyle:
    """A figure's title, the format of its values, and the unit of its axis."""

    title: str
    format: Callable[[float], str]
    unit: Unit = "value"


def _norm(value: float) -> str:
    return f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _small(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _share(value: float) -> str:
    return f"{value:.1%}"


def _gigabytes(size: float) -> str:
    return f"{figures.gigabytes(size)} GB"


FIGURES: Final[dict[Figure, FigureStyle]] = {
    "loss": FigureStyle("loss", figures.loss),
    "margin": FigureStyle("margin", _signed),
    "accuracy": FigureStyle("accuracy", _share, "share"),
    "reward": FigureStyle("reward", _signed),
    "log_probability": FigureStyle("log p", _signed),
    "divergence": FigureStyle("KL", _small),
    "speed": FigureStyle("tok/s", figures.rate),
    "rate": FigureStyle("lr", figures.short_rate, "rate"),
    "gradient": FigureStyle("gradient", _norm),
    "memory": FigureStyle("peak", _gigabytes, "memory"),
}


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
class PlotOptions:
    """How the curve is drawn; `cursor` is the step under the crosshair."""

    figure: Figure = "loss"
    smoothing: int = LOSS_SMOOTHING
    log: bool = False
    over: XAxis = "step"
    halvings: int = 0
    cursor: float | None = None
    frozen: bool = False


class RunPlot(CellView):
    """The raw figure dim, the smoothed one bright; for the loss also the validations."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self.options = PlotOptions()
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
            self._draw()

    def overlay(self, earlier: Sequence[EarlierRun]) -> None:
        """Draw these runs behind the current one."""
        self._earlier = tuple(earlier[: len(EARLIER_ROLES)])
        self._draw()

    def smoother(self, direction: int) -> None:
        """Smooth more or less."""
        at = SMOOTHINGS.index(self.options.smoothing) + direction
        smoothing = SMOOTHINGS[min(max(at, 0), len(SMOOTHINGS) - 1)]
        self._apply(replace(self.options, smoothing=smoothing))

    def next_figure(self) -> None:
        """Cycle through the run's figures; the crosshair keeps its step."""
        names = figures_of(self._view.steps)
        at = names.index(self.options.figure) if self.options.figure in names else -1
        self._apply(replace(self.options, figure=names[(at + 1) % len(names)]))

    def window(self) -> Window:
        """The visible part of the x axis, for the smaller charts beside it."""
        shown = self._current_curve()
        low, high = x_range(self._view, shown, self.options)
        at = _cursor(shown, self.options)
        return Window(self.options.over, low, high, None if at is None else int(shown.point[at]))

    def toggle_log(self) -> None:
        """Linear or logarithmic."""
        self._apply(replace(self.options, log=not self.options.log))

    def next_x_axis(self) -> None:
        """Over steps, tokens, or time."""
        at = X_AXES.index(self.options.over) + 1
        self._apply(replace(self.options, over=X_AXES[at % len(X_AXES)]))

    def zoom(self, direction: int) -> None:
        """Show half or twice as much of the x axis; 0 shows all and removes the crosshair."""
        if direction == 0:
            self._apply(replace(self.options, halvings=0, cursor=None))
            return
        halvings = self.options.halvings + direction
        enough = len(self._view.steps) >> max(0, halvings) >= LEAST_POINTS
        if 0 <= halvings <= MOST_HALVINGS and (enough or direction < 0):
            self._apply(replace(self.options, halvings=halvings))

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
        self._apply(replace(self.options, cursor=float(shown.step[min(max(moved, 0), last)])))

    def leave_cursor(self) -> None:
        """Remove the crosshair and follow the run again."""
        self._apply(replace(self.options, cursor=None))

    def freeze(self, frozen: bool) -> None:
        """Mark the view as frozen in the title."""
        self._apply(replace(self.options, frozen=frozen))

    def _apply(self, options: PlotOptions) -> None:
        self.options = options
        self._draw()

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

    def _draw(self) -> None:
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


def _curve_options(options: PlotOptions) -> CurveOptions:
    return options.figure, options.over, options.smoothing


def _cursor(shown: Curve, options: PlotOptions) -> int | None:
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
    options: PlotOptions,
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


def x_range(view: RunView, shown: Curve, options: PlotOptions) -> tuple[float, float]:
    """The visible part of the x axis."""
    last = float(shown.x[-1]) if len(shown.x) else 0.0
    limit = float(view.iters) if options.over == "step" and view.iters else None
    end = x_end(last, limit)
    if not options.halvings:
        return 0.0, end
    at = _cursor(shown, options)
    centre = None if at is None else float(shown.x[at])
    return x_window(last, end, 0.5**options.halvings, centre)


def _series(
    view: RunView,
    shown: Curve,
    earlier: Sequence[EarlierCurve],
    options: PlotOptions,
    ascii_only: bool,
) -> list[Series]:
    below = [
        Series(each.x, each.smooth, role)
        for (_, each), role in zip(earlier, EARLIER_ROLES, strict=False)
    ]
    if _is_smoothed(options):
        below.append(Series(shown.x, shown.raw, "raw"))
    if options.figure in curves.OF_BOTH:
        rejected = _rejected(view, options)
        below.append(Series(rejected.x, rejected.smooth, "second"))
    below.append(Series(shown.x, shown.smooth, "smooth"))
    if options.figure == "loss":
        below.append(curves.validation_points(view, options.over, "o" if ascii_only else "●"))
    return below


def _rejected(view: RunView, options: PlotOptions) -> Curve:
    """The same figure of the rejected answers."""
    return curves.curve(view.steps, *_curve_options(options), rejected=True)


def _rejected_value(view: RunView, cursor: int | None, options: PlotOptions) -> list[Span]:
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


def _is_smoothed(options: PlotOptions) -> bool:
    return options.smoothing > 1 and options.figure in curves.NOISY


def _legend(earlier: Sequence[EarlierCurve], x: float | None, options: PlotOptions) -> Row:
    """The earlier runs with their smoothed figure at x, or else at their end."""
    import numpy as np

    smoothed = ", smoothed" if _is_smoothed(options) else ""
    runs: list[Span] = [(f"  earlier{smoothed}", "muted")]
    for number, ((name, each), role) in enumerate(zip(earlier, EARLIER_ROLES, strict=False), 1):
        at = len(each.x) - 1 if x is None else int(np.searchsorted(each.x, x, "right")) - 1
        value = _formatted(float(each.smooth[at]), options) if at >= 0 else figures.NONE
        runs += [(f"  {number} {printable_line(name)}", role), (f" {value}", "plain")]
    return tuple(runs)


def _how(view: RunView, options: PlotOptions, room: int) -> Row:
    """How the figure is drawn, without the least important parts if it is too narrow."""
    parts = _how_parts(view, options)
    while parts and width_of(separated(list(parts.values()), "  ")) > room:
        del parts[next(name for name in LEAST_FIRST if name in parts)]
    return separated(list(parts.values()), "  ")


def _how_parts(view: RunView, options: PlotOptions) -> dict[str, Row]:
    parts: dict[str, Row] = {}
    if options.halvings:
        parts["zoom"] = ((f"×{2**options.halvings}", "muted"),)
    if options.figure in curves.NOISY:
        smoothing = f"ema {options.smoothing} steps" if _is_smoothed(options) else "raw"
        parts["smoothing"] = ((smoothing, "muted"),)
    parts["scale"] = (("log" if options.log else "linear", "muted"),)
    if options.over != "step":
        parts["over"] = ((f"over {options.over}", "muted"),)
    if view.validations and options.figure == "loss":
        parts["validation"] = (("●", "validation"), (" validation", "muted"))
    if view.best_validation:
        parts["best"] = (("▲", "best"), (" best", "muted"))
    return parts


def _value(view: RunView, shown: Curve, cursor: int | None, options: PlotOptions) -> Row:
    runs: list[Span] = [(f"{FIGURES[options.figure].title} ", "strong")]
    if not len(shown.x):
        return (*runs, (figures.NONE, "muted"))
    at = len(shown.x) - 1 if cursor is None else cursor
    step = float(shown.step[at])
    runs.append(_figure_at(view, shown, None if cursor is None else at, options))
    runs += _rejected_value(view, None if cursor is None else int(shown.point[at]), options)
    runs.append((f"  step {step:.0f}", "muted"))
    if cursor is not None:
        runs.append((_x_text(float(shown.x[at]), options.over), "muted"))
        if _is_smoothed(options):
            smooth = _formatted(float(shown.smooth[at]), options)
            runs.append((f"  smoothed {smooth}", "smooth"))
        near = [each for each in view.validations if each.step == step]
        if near:
            runs.append((f"  val {figures.loss(near[-1].loss)}", "validation"))
        runs.append((_rate_and_gradient(view.steps, int(shown.point[at]), options), "muted"))
    if options.frozen:
        runs.append(("  FROZEN", "warning"))
    return tuple(runs)


def _figure_at(view: RunView, shown: Curve, cursor: int | None, options: PlotOptions) -> Span:
    """The step's own figure under the crosshair; else the loss of the last report, or the end of
    the curve."""
    if cursor is not None:
        return _formatted(float(shown.raw[cursor]), options), "strong"
    if options.figure == "loss":
        return figures.loss(view.loss), "strong"
    return _formatted(float(shown.smooth[-1]), options), "smooth"


def _formatted(value: float, options: PlotOptions) -> str:
    return FIGURES[options.figure].format(value)


def _x_text(x: float, over: XAxis) -> str:
    """The crosshair's x value, unless that is a step."""
    match over:
        case "tokens":
            return f"  {figures.count(round(x))} tokens"
        case "time":
            return f"  {figures.duration(x)}"
        case _:
            return ""


def _rate_and_gradient(steps: Steps, point: int, options: PlotOptions) -> str:
    """Learning rate and gradient under the crosshair, besides the figure shown."""
    words = []
    if options.figure != "rate":
        words.append(f"  lr {figures.learning_rate(steps.learning_rate[point])}")
    if options.figure != "gradient" and math.isfinite(steps.gradient_norm[point]):
        words.append(f"  gradient {steps.gradient_norm[point]:.3g}")
    return "".join(words)

"""A figure of a run as a curve to read: smoothed, zoomed, and with a crosshair."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlxft.runs.smoothing import LOSS_SMOOTHING
from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.plot import curves
from mlxft_tui.plot.axes import LABEL_WIDTH, Unit, axes_around, x_end, x_window
from mlxft_tui.plot.canvas import draw
from mlxft_tui.plot.curves import Curve, EarlierRun, Figure, Progression
from mlxft_tui.plot.series import Series
from mlxft_tui.text.cells import Role, Row, Span, cropped, heading, separated, width_of
from mlxft_tui.widgets.cell_view import CellView

SMOOTHINGS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Steps that are averaged over; 1 is the raw loss."""
PROGRESSIONS: Final[tuple[Progression, ...]] = ("step", "tokens", "time")
MOST_HALVINGS: Final = 12
LEAST_POINTS: Final = 8
"""Points that a zoomed curve still shows."""
EARLIER_ROLES: Final[tuple[Role, ...]] = ("first", "second", "third")
"""How earlier runs are drawn, and how many there is room for."""
RULES: Final = 6
"""Cells of the title's line beside its two texts."""
LEAST_FIRST: Final = ("best", "validation", "smoothing", "zoom", "scale", "over")
"""What is left out of the title where there is no room, in this order."""


@dataclass(frozen=True)
class Naming:
    """A figure's title, how its values are written, and how its axis is."""

    title: str
    write: Callable[[float], str]
    unit: Unit = "value"


def _norm(value: float) -> str:
    return f"{value:.3g}"


def _gigabytes(size: float) -> str:
    return f"{figures.gigabytes(size)} GB"


NAMINGS: Final[dict[Figure, Naming]] = {
    "loss": Naming("loss", figures.loss),
    "speed": Naming("tok/s", figures.rate),
    "rate": Naming("lr", figures.short_rate, "rate"),
    "gradient": Naming("gradient", _norm),
    "memory": Naming("peak", _gigabytes),
}


@dataclass(frozen=True)
class Window:
    """The part of the x axis that is drawn, and the point of the run under the crosshair."""

    over: Progression
    low: float
    high: float
    point: int | None = None


@dataclass(frozen=True)
class Look:
    """How the reader wants the curve; `cursor` is the step under the crosshair."""

    figure: Figure = "loss"
    smoothing: int = LOSS_SMOOTHING
    log: bool = False
    over: Progression = "step"
    halvings: int = 0
    cursor: float | None = None
    frozen: bool = False


class RunPlot(CellView):
    """Raw figure dim, smoothed bright; with the loss its validations as points; the best ticked."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self.look = Look()
        self._view = RunView()
        self._earlier: tuple[EarlierRun, ...] = ()
        self._curves: tuple[Steps, Look, Curve] | None = None
        self._compared: tuple[object, list[Named]] = ((), [])

    def show(self, view: RunView) -> None:
        """Draw the run as it is now."""
        before, self._view = self._view, view
        if _drawn(before) != _drawn(view):
            self.repaint()

    def compare(self, earlier: Sequence[EarlierRun]) -> None:
        """Lay these runs under the present one."""
        self._earlier = tuple(earlier[: len(EARLIER_ROLES)])
        self.repaint()

    def smoother(self, direction: int) -> None:
        """Smooth one notch more or less."""
        at = SMOOTHINGS.index(self.look.smoothing) + direction
        self._look(smoothing=SMOOTHINGS[min(max(at, 0), len(SMOOTHINGS) - 1)])

    def next_figure(self) -> None:
        """Loss, speed, learning rate, gradient, memory; the crosshair stays at its step."""
        names = list(NAMINGS)
        self._look(figure=names[(names.index(self.look.figure) + 1) % len(names)])

    def window(self) -> Window:
        """What of the x axis is drawn now, for what is drawn beside it."""
        shown = self._present_curve()
        low, high = x_range(self._view, shown, self.look)
        at = _cursor(shown, self.look)
        return Window(self.look.over, low, high, None if at is None else int(shown.point[at]))

    def toggle_log(self) -> None:
        """Linear or logarithmic."""
        self._look(log=not self.look.log)

    def next_progression(self) -> None:
        """Over steps, tokens, or time."""
        at = PROGRESSIONS.index(self.look.over) + 1
        self._look(over=PROGRESSIONS[at % len(PROGRESSIONS)])

    def zoom(self, direction: int) -> None:
        """Show half or twice as much of the x axis; 0 shows all and takes the crosshair away."""
        if direction == 0:
            self._look(halvings=0, cursor=None)
            return
        halvings = self.look.halvings + direction
        enough = len(self._view.steps) >> max(0, halvings) >= LEAST_POINTS
        if 0 <= halvings <= MOST_HALVINGS and (enough or direction < 0):
            self._look(halvings=halvings)

    def move_cursor(self, columns: int) -> None:
        """Move the crosshair by so many columns, at least to the next step."""
        import numpy as np

        shown = self._present_curve()
        if not len(shown.x):
            return
        last = len(shown.x) - 1
        present = _cursor(shown, self.look)
        at = last if present is None else present
        look = replace(self.look, cursor=float(shown.step[at]))
        low, high = x_range(self._view, shown, look)
        column = (high - low) / max(1, self.size.width - LABEL_WIDTH - 1)
        target = shown.x[at] + columns * column
        nearest = int(np.searchsorted(shown.x, target))
        least = at + (1 if columns > 0 else -1)
        moved = max(nearest, least) if columns > 0 else min(nearest, least)
        self._look(cursor=float(shown.step[min(max(moved, 0), last)]))

    def leave_cursor(self) -> None:
        """Take the crosshair away; the view follows the run again."""
        self._look(cursor=None)

    def freeze(self, frozen: bool) -> None:
        """Say in the title that the view stands still."""
        self._look(frozen=frozen)

    def _look(self, **changes: object) -> None:
        self.look = replace(self.look, **changes)  # type: ignore[arg-type]
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        shown, earlier = self._present_curve(), self._earlier_curves()
        return plot_rows(self._view, shown, earlier, self.look, width, height, self.ascii_only)

    def _present_curve(self) -> Curve:
        """The curve, made again only for new steps or another look."""
        steps, look = self._view.steps, self.look
        made = self._curves
        if made is None or made[0] is not steps or _shape(made[1]) != _shape(look):
            made = (steps, look, curves.curve(steps, look.figure, look.over, look.smoothing))
            self._curves = made
        return made[2]

    def _earlier_curves(self) -> list[Named]:
        """The earlier runs' curves, made again only for other runs or another look."""
        look = self.look
        wanted = (tuple(map(id, self._earlier)), _shape(look))
        if self._compared[0] != wanted:
            made = [
                (each.name, curves.curve(each.steps, look.figure, look.over, look.smoothing))
                for each in self._earlier
            ]
            self._compared = (wanted, made)
        return self._compared[1]


def _shape(look: Look) -> tuple[object, ...]:
    """What of a look makes another curve."""
    return look.figure, look.over, look.smoothing


def _cursor(shown: Curve, look: Look) -> int | None:
    """The index of the point under the crosshair, where there is one.

    Of a long run's earlier steps not each has a point; then it is the next that has.
    """
    if look.cursor is None or not len(shown.x):
        return None
    return min(int(shown.step.searchsorted(look.cursor)), len(shown.x) - 1)


def _drawn(view: RunView) -> tuple[object, ...]:
    """What of a run the plot shows; a journal only grows, so that lengths tell a change."""
    return id(view.steps), len(view.validations), view.iters


Named = tuple[str, Curve]
"""An earlier run's name and its curve."""


def plot_rows(
    view: RunView,
    shown: Curve,
    earlier: Sequence[Named],
    look: Look,
    width: int,
    height: int,
    ascii_only: bool = False,
) -> list[Row]:
    """Title, legend of the earlier runs and chart in so much room."""
    cursor = _cursor(shown, look)
    value = _value(view, shown, cursor, look)
    head = [heading(value, _what(view, look, width - width_of(value) - RULES), width)]
    at = None if cursor is None else float(shown.x[cursor])
    if earlier:
        here = float(shown.x[-1]) if at is None and len(shown.x) else at
        head.append(cropped(_legend(earlier, here, look), width))
    series = _series(view, shown, earlier, look, ascii_only)
    low, high = x_range(view, shown, look)
    axes = axes_around(series, low, high, look.log, look.over, NAMINGS[look.figure].unit)
    best = view.best_validation
    ticks: list[tuple[float, str, Role]] = []
    if best is not None:
        place = curves.place_of(view.steps, look.over, best.step)
        ticks.append((place, "^" if ascii_only else "▲", "best"))
    chart = draw(
        series,
        axes,
        width,
        height - len(head),
        cursor=at,
        ticks=ticks,
        ascii_only=ascii_only,
    )
    return [*head, *chart]


def x_range(view: RunView, shown: Curve, look: Look) -> tuple[float, float]:
    """What part of the run is drawn."""
    last = float(shown.x[-1]) if len(shown.x) else 0.0
    limit = float(view.iters) if look.over == "step" and view.iters else None
    end = x_end(last, limit)
    if not look.halvings:
        return 0.0, end
    at = _cursor(shown, look)
    centre = None if at is None else float(shown.x[at])
    return x_window(last, end, 0.5**look.halvings, centre)


def _series(
    view: RunView, shown: Curve, earlier: Sequence[Named], look: Look, ascii_only: bool
) -> list[Series]:
    below = [
        Series(each.x, each.smooth, role)
        for (_, each), role in zip(earlier, EARLIER_ROLES, strict=False)
    ]
    if _is_smoothed(look):
        below.append(Series(shown.x, shown.raw, "raw"))
    below.append(Series(shown.x, shown.smooth, "smooth"))
    if look.figure == "loss":
        below.append(curves.validation_points(view, look.over, "o" if ascii_only else "●"))
    return below


def _is_smoothed(look: Look) -> bool:
    return look.smoothing > 1 and look.figure in curves.NOISY


def _legend(earlier: Sequence[Named], x: float | None, look: Look) -> Row:
    """The earlier runs with their smoothed figure where this run is read, or else at their end."""
    import numpy as np

    runs: list[Span] = [("  earlier", "muted")]
    for number, ((name, each), role) in enumerate(zip(earlier, EARLIER_ROLES, strict=False), 1):
        at = len(each.x) - 1 if x is None else int(np.searchsorted(each.x, x, "right")) - 1
        value = _written(float(each.smooth[at]), look) if at >= 0 else figures.NONE
        runs += [(f"  {number} {printable_line(name)}", role), (f" {value}", "plain")]
    return tuple(runs)


def _what(view: RunView, look: Look, room: int) -> Row:
    """How the figure is drawn, in so many cells: what matters least to reading it goes first."""
    parts = _parts_of_what(view, look)
    while parts and width_of(separated(list(parts.values()), "  ")) > room:
        del parts[next(name for name in LEAST_FIRST if name in parts)]
    return separated(list(parts.values()), "  ")


def _parts_of_what(view: RunView, look: Look) -> dict[str, Row]:
    parts: dict[str, Row] = {}
    if look.halvings:
        parts["zoom"] = ((f"×{2**look.halvings}", "muted"),)
    if look.figure in curves.NOISY:
        smoothing = f"ema {look.smoothing} steps" if _is_smoothed(look) else "raw"
        parts["smoothing"] = ((smoothing, "muted"),)
    parts["scale"] = (("log" if look.log else "linear", "muted"),)
    if look.over != "step":
        parts["over"] = ((f"over {look.over}", "muted"),)
    if view.validations and look.figure == "loss":
        parts["validation"] = (("●", "validation"), (" validation", "muted"))
    if view.best_validation:
        parts["best"] = (("▲", "best"), (" best", "muted"))
    return parts


def _value(view: RunView, shown: Curve, cursor: int | None, look: Look) -> Row:
    runs: list[Span] = [(f"{NAMINGS[look.figure].title} ", "strong")]
    if not len(shown.x):
        return (*runs, (figures.NONE, "muted"))
    at = len(shown.x) - 1 if cursor is None else cursor
    step = float(shown.step[at])
    runs.append((_written(float(shown.smooth[at]), look), "smooth"))
    runs.append((f"  step {step:.0f}", "muted"))
    if cursor is not None:
        runs.append((_place(float(shown.x[at]), look.over), "muted"))
        if _is_smoothed(look):
            runs.append((f"  raw {_written(float(shown.raw[at]), look)}", "muted"))
        near = [each for each in view.validations if each.step == step]
        if near:
            runs.append((f"  val {figures.loss(near[-1].loss)}", "validation"))
        runs.append((_others(view.steps, int(shown.point[at]), look), "muted"))
    if look.frozen:
        runs.append(("  FROZEN", "warning"))
    return tuple(runs)


def _written(value: float, look: Look) -> str:
    return NAMINGS[look.figure].write(value)


def _place(x: float, over: Progression) -> str:
    """Where the crosshair is, if that isn't a step."""
    match over:
        case "tokens":
            return f"  {figures.count(round(x))} tokens"
        case "time":
            return f"  {figures.duration(x)}"
        case _:
            return ""


def _others(steps: Steps, point: int, look: Look) -> str:
    """Learning rate and gradient of the step under the crosshair, beside the figure shown."""
    words = []
    if look.figure != "rate":
        words.append(f"  lr {figures.learning_rate(steps.learning_rate[point])}")
    if look.figure != "gradient" and math.isfinite(steps.gradient_norm[point]):
        words.append(f"  gradient {steps.gradient_norm[point]:.3g}")
    return "".join(words)

"""The loss of a run as a curve to read: smoothed, zoomed, and with a crosshair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlxft.data.printable import printable_line
from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView
from mlxft_tui import curves, figures
from mlxft_tui.cells import Role, Row, Run, cropped, heading
from mlxft_tui.chart import LABEL_WIDTH, Axes, Series, axes_around, draw, x_end, x_window
from mlxft_tui.curves import EarlierRun, LossCurves, Progression
from mlxft_tui.widgets.cell_view import CellView

SMOOTHINGS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Steps that are averaged over; 1 is the raw loss."""
PROGRESSIONS: Final[tuple[Progression, ...]] = ("step", "tokens", "time")
MOST_HALVINGS: Final = 12
LEAST_POINTS: Final = 8
"""Points that a zoomed curve still shows."""
EARLIER_ROLES: Final[tuple[Role, ...]] = ("first", "second", "third")
"""How earlier runs are drawn, and how many there is room for."""


@dataclass(frozen=True)
class Look:
    """How the reader wants the curve; `cursor` is the index of the step under the crosshair."""

    smoothing: int = 10
    log: bool = False
    over: Progression = "step"
    halvings: int = 0
    cursor: int | None = None
    frozen: bool = False


class LossPlot(CellView):
    """Raw loss dim, smoothed bright, validations as points, the best one ticked below."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id)
        self.look = Look()
        self._view = RunView()
        self._earlier: tuple[EarlierRun, ...] = ()
        self._curves: tuple[Steps, Look, LossCurves] | None = None
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

    def toggle_log(self) -> None:
        """Linear or logarithmic loss."""
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

        shown = self._present_curves()
        if not len(shown.x):
            return
        last = len(shown.x) - 1
        at = last if self.look.cursor is None else min(self.look.cursor, last)
        axes = axes_of(self._view, shown, (), replace(self.look, cursor=at))
        column = (axes.x_high - axes.x_low) / max(1, self.size.width - LABEL_WIDTH - 1)
        target = shown.x[at] + columns * column
        nearest = int(np.searchsorted(shown.x, target))
        least = at + (1 if columns > 0 else -1)
        moved = max(nearest, least) if columns > 0 else min(nearest, least)
        self._look(cursor=min(max(moved, 0), last))

    def freeze(self, frozen: bool) -> None:
        """Say in the title that the view stands still."""
        self._look(frozen=frozen)

    def _look(self, **changes: object) -> None:
        self.look = replace(self.look, **changes)  # type: ignore[arg-type]
        self.repaint()

    def rows(self, width: int, height: int) -> Sequence[Row]:
        shown, earlier = self._present_curves(), self._earlier_curves()
        return loss_rows(self._view, shown, earlier, self.look, width, height, self.ascii_only)

    def _present_curves(self) -> LossCurves:
        """The curves, made again only for new steps or another smoothing or progression."""
        steps, look = self._view.steps, self.look
        made = self._curves
        if (
            made is None
            or made[0] is not steps
            or (made[1].smoothing, made[1].over) != (look.smoothing, look.over)
        ):
            made = (steps, look, curves.loss_curves(steps, look.over, look.smoothing))
            self._curves = made
        return made[2]

    def _earlier_curves(self) -> list[Named]:
        """The earlier runs' curves, made again only for other runs or another look."""
        look = self.look
        wanted = (tuple(map(id, self._earlier)), look.over, look.smoothing)
        if self._compared[0] != wanted:
            made = [
                (each.name, curves.loss_curves(each.steps, look.over, look.smoothing))
                for each in self._earlier
            ]
            self._compared = (wanted, made)
        return self._compared[1]


def _drawn(view: RunView) -> tuple[object, ...]:
    """What of a run the plot shows; a journal only grows, so that lengths tell a change."""
    return id(view.steps), len(view.validations), view.iters


Named = tuple[str, LossCurves]
"""An earlier run's name and its curves."""


def loss_rows(
    view: RunView,
    shown: LossCurves,
    earlier: Sequence[Named],
    look: Look,
    width: int,
    height: int,
    ascii_only: bool = False,
) -> list[Row]:
    """Title, legend of the earlier runs and chart in so much room."""
    cursor = None
    if look.cursor is not None and len(shown.x):
        cursor = min(look.cursor, len(shown.x) - 1)
    head = [heading(_value(view, shown, cursor, look), _what(view, look), width)]
    at = None if cursor is None else float(shown.x[cursor])
    if earlier:
        head.append(cropped(_legend(earlier, at), width))
    axes = axes_of(view, shown, earlier, look)
    best = view.best_validation
    ticks: list[tuple[float, str, Role]] = []
    if best is not None:
        place = curves.place_of(view.steps, look.over, best.step)
        ticks.append((place, "^" if ascii_only else "▲", "best"))
    chart = draw(
        _series(view, shown, earlier, look, ascii_only),
        axes,
        width,
        height - len(head),
        cursor=at,
        ticks=ticks,
        ascii_only=ascii_only,
    )
    return [*head, *chart]


def axes_of(view: RunView, shown: LossCurves, earlier: Sequence[Named], look: Look) -> Axes:
    """What part of the run is drawn."""
    last = float(shown.x[-1]) if len(shown.x) else 0.0
    limit = float(view.iters) if look.over == "step" and view.iters else None
    end = x_end(last, limit)
    low, high = 0.0, end
    if look.halvings:
        cursor = None
        if look.cursor is not None and len(shown.x):
            cursor = float(shown.x[min(look.cursor, len(shown.x) - 1)])
        low, high = x_window(last, end, 0.5**look.halvings, cursor)
    series = _series(view, shown, earlier, look, False)
    return axes_around(series, low, high, look.log, look.over)


def _series(
    view: RunView, shown: LossCurves, earlier: Sequence[Named], look: Look, ascii_only: bool
) -> list[Series]:
    below = [
        Series(each.x, each.smooth, role)
        for (_, each), role in zip(earlier, EARLIER_ROLES, strict=False)
    ]
    if look.smoothing > 1:
        below.append(Series(shown.x, shown.raw, "raw"))
    points = curves.validation_points(view, look.over, "o" if ascii_only else "●")
    return [*below, Series(shown.x, shown.smooth, "smooth"), points]


def _legend(earlier: Sequence[Named], x: float | None) -> Row:
    """The earlier runs with their smoothed loss at the crosshair, or at their end."""
    import numpy as np

    runs: list[Run] = [("  earlier", "muted")]
    for number, ((name, each), role) in enumerate(zip(earlier, EARLIER_ROLES, strict=False), 1):
        at = len(each.x) - 1 if x is None else int(np.searchsorted(each.x, x, "right")) - 1
        loss = figures.loss(float(each.smooth[at]) if at >= 0 else None)
        runs += [(f"  {number} {printable_line(name)}", role), (f" {loss}", "plain")]
    return tuple(runs)


def _what(view: RunView, look: Look) -> Row:
    runs: list[Run] = []
    if look.halvings:
        runs.append((f"×{2**look.halvings}  ", "muted"))
    runs.append((f"ema {look.smoothing} steps" if look.smoothing > 1 else "raw", "muted"))
    runs.append(("  log" if look.log else "  linear", "muted"))
    if look.over != "step":
        runs.append((f"  over {look.over}", "muted"))
    if view.validations:
        runs += [("  ●", "validation"), (" validation", "muted")]
    if view.best_validation:
        runs += [("  ▲", "best"), (" best", "muted")]
    return tuple(runs)


def _value(view: RunView, shown: LossCurves, cursor: int | None, look: Look) -> Row:
    runs: list[Run] = [("loss ", "strong")]
    if not len(shown.x):
        return tuple(runs)
    at = len(shown.x) - 1 if cursor is None else cursor
    step = float(shown.step[at])
    runs.append((figures.loss(float(shown.smooth[at])), "smooth"))
    runs.append((f"  step {step:.0f}", "muted"))
    if cursor is not None:
        runs.append((f"  raw {figures.loss(float(shown.raw[at]))}", "muted"))
        near = [each for each in view.validations if each.step == step]
        if near:
            runs.append((f"  val {figures.loss(near[-1].loss)}", "validation"))
        runs.append((_others(view.steps, int(shown.point[at])), "muted"))
    if look.frozen:
        runs.append(("  FROZEN", "warning"))
    return tuple(runs)


def _others(steps: Steps, point: int) -> str:
    """Learning rate and gradient of the step under the crosshair."""
    norm = steps.gradient_norm[point]
    gradient = f"  gradient {norm:.3g}" if math.isfinite(norm) else ""
    return f"  lr {figures.learning_rate(steps.learning_rate[point])}{gradient}"

"""The loss of a run as a curve to read: smoothed, zoomed, and with a crosshair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlxft.runs.view import RunView, Steps
from mlxft_tui import curves, figures
from mlxft_tui.cells import Role, Row, Run, heading
from mlxft_tui.chart import LABEL_WIDTH, Axes, Series, axes_around, draw, x_end, x_window
from mlxft_tui.curves import LossCurves, Progression
from mlxft_tui.widgets.cell_view import CellView

SMOOTHINGS: Final = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99)
PROGRESSIONS: Final[tuple[Progression, ...]] = ("step", "tokens", "time")
MOST_HALVINGS: Final = 12
LEAST_POINTS: Final = 8
"""Points that a zoomed curve still shows."""


@dataclass(frozen=True)
class Look:
    """How the reader wants the curve; `cursor` is the index of the step under the crosshair."""

    smoothing: float = 0.6
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
        self._curves: tuple[Steps, Look, LossCurves] | None = None

    def show(self, view: RunView) -> None:
        """Draw the run as it is now."""
        before, self._view = self._view, view
        if _drawn(before) != _drawn(view):
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
        axes = axes_of(self._view, shown, replace(self.look, cursor=at))
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
        return loss_rows(
            self._view, self._present_curves(), self.look, width, height, self.ascii_only
        )

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


def _drawn(view: RunView) -> tuple[object, ...]:
    """What of a run the plot shows; a journal only grows, so that lengths tell a change."""
    return id(view.steps), len(view.validations), view.iters


def loss_rows(
    view: RunView, shown: LossCurves, look: Look, width: int, height: int, ascii_only: bool = False
) -> list[Row]:
    """Title and chart in so much room."""
    cursor = None
    if look.cursor is not None and len(shown.x):
        cursor = min(look.cursor, len(shown.x) - 1)
    title = heading(_value(view, shown, cursor, look), _what(view, look), width)
    axes = axes_of(view, shown, look)
    best = view.best_validation
    ticks: list[tuple[float, str, Role]] = []
    if best is not None:
        place = curves.place_of(view.steps, look.over, best.step)
        ticks.append((place, "^" if ascii_only else "▲", "best"))
    chart = draw(
        _series(view, shown, look, ascii_only),
        axes,
        width,
        height - 1,
        cursor=None if cursor is None else float(shown.x[cursor]),
        ticks=ticks,
        ascii_only=ascii_only,
    )
    return [title, *chart]


def axes_of(view: RunView, shown: LossCurves, look: Look) -> Axes:
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
    return axes_around(_series(view, shown, look, False), low, high, look.log, look.over)


def _series(view: RunView, shown: LossCurves, look: Look, ascii_only: bool) -> list[Series]:
    mark = "o" if ascii_only else "●"
    points = curves.validation_points(view, look.over, mark)
    smooth = Series(shown.x, shown.smooth, "smooth")
    return (
        [Series(shown.x, shown.raw, "raw"), smooth, points] if look.smoothing else [smooth, points]
    )


def _what(view: RunView, look: Look) -> Row:
    runs: list[Run] = []
    if look.halvings:
        runs.append((f"×{2**look.halvings}  ", "muted"))
    runs.append((f"ema .{look.smoothing * 100:.0f}" if look.smoothing else "raw", "muted"))
    runs.append(("  log" if look.log else "  linear", "muted"))
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
    if look.frozen:
        runs.append(("  FROZEN", "warning"))
    return tuple(runs)

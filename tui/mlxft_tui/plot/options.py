"""How curves are drawn, and what a key changes in it; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from mlxft.runs.smoothing import LOSS_SMOOTHING
from mlxft.text import figures
from mlxft_tui.plot import curves
from mlxft_tui.plot.axes import x_window
from mlxft_tui.plot.curves import XAxis
from mlxft_tui.plot.figure_styles import OverlaidFigure
from mlxft_tui.text.cells import Row

SMOOTHINGS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Steps averaged over; 1 is the raw figure."""

X_AXES: Final[tuple[XAxis, ...]] = ("step", "tokens", "time")
MOST_HALVINGS: Final = 12


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """How curves are drawn; `cursor` is where the crosshair stands, as each plot counts it."""

    figure: OverlaidFigure = "loss"
    smoothing: int = LOSS_SMOOTHING
    log: bool = False
    over: XAxis = "step"
    halvings: int = 0
    """How often the visible part of the x axis was halved."""
    cursor: float | None = None

    @property
    def is_smoothed(self) -> bool:
        """Whether the figure is drawn smoothed."""
        return self.smoothing > 1 and self.figure in curves.NOISY

    def smoother(self, direction: int) -> Self:
        """Smoothed over more steps, or fewer."""
        at = SMOOTHINGS.index(self.smoothing) + direction
        return replace(self, smoothing=SMOOTHINGS[min(max(at, 0), len(SMOOTHINGS) - 1)])

    def next_x_axis(self) -> Self:
        """Over steps, tokens, or time."""
        at = X_AXES.index(self.over) + 1
        return replace(self, over=X_AXES[at % len(X_AXES)])

    def zoomed(self, direction: int) -> Self:
        """With half or twice as much of the x axis; 0 shows all and removes the crosshair."""
        if direction == 0:
            return replace(self, halvings=0, cursor=None)
        return replace(self, halvings=min(max(self.halvings + direction, 0), MOST_HALVINGS))

    def visible(self, last: float, end: float, centre: float | None) -> tuple[float, float]:
        """The part of an x axis up to `end` that is shown, of curves up to `last`."""
        if not self.halvings:
            return 0.0, end
        return x_window(last, end, 0.5**self.halvings, centre)

    def described(self) -> dict[str, Row]:
        """Zoom, smoothing and scale in words, by name."""
        parts: dict[str, Row] = {}
        if self.halvings:
            parts["zoom"] = ((f"×{2**self.halvings}", "muted"),)
        if self.figure in curves.NOISY:
            smoothing = f"ema {self.smoothing} steps" if self.is_smoothed else "raw"
            parts["smoothing"] = ((smoothing, "muted"),)
        parts["scale"] = (("log" if self.log else "linear", "muted"),)
        return parts


def x_text(x: float, over: XAxis) -> str:
    """An x value in words."""
    match over:
        case "tokens":
            return f"{figures.count(round(x))} tokens"
        case "time":
            return figures.duration(x)
        case _:
            return f"step {x:.0f}"

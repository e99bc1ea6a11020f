"""The keys of a screen with a plot."""

from __future__ import annotations

from typing import Any, Final

from textual.binding import Binding, BindingType

from mlxft_tui.plot.plot_view import PlotView

CURVE_BINDINGS: Final[list[BindingType]] = [
    Binding("comma", "smooth(-1)", "Smooth less", key_display=",", show=False, id="smooth_less"),
    Binding("full_stop", "smooth(1)", "Smooth more", key_display=".", show=False, id="smooth_more"),
    Binding("plus,equals_sign", "zoom(1)", "Zoom in", key_display="+", show=False, id="zoom_in"),
    Binding("minus", "zoom(-1)", "Zoom out", key_display="-", show=False, id="zoom_out"),
    Binding("0", "zoom(0)", "Zoom out fully", show=False, id="whole_run"),
    Binding("left,h", "crosshair(-1)", "Crosshair left", show=False, id="crosshair_left"),
    Binding("right,l", "crosshair(1)", "Crosshair right", show=False, id="crosshair_right"),
    Binding("shift+left,H", "crosshair(-10)", "Far left", show=False, id="crosshair_far_left"),
    Binding("shift+right,L", "crosshair(10)", "Far right", show=False, id="crosshair_far_right"),
]


class PlotKeys:
    """The actions of `CURVE_BINDINGS` and those on figure and axes, for a screen to inherit."""

    @property
    def plot(self) -> PlotView[Any]:
        """The plot that the keys act on."""
        raise NotImplementedError

    def plot_changed(self) -> None:
        """Called when the plot shows another figure or another part of the x axis."""

    def action_figure(self) -> None:
        """Show another figure."""
        self.plot.next_figure()
        self.plot_changed()

    def action_log_scale(self) -> None:
        """Linear or logarithmic."""
        self.plot.toggle_log()

    def action_x_axis(self) -> None:
        """The figures over steps, tokens or time."""
        self.plot.next_x_axis()
        self.plot_changed()

    def action_smooth(self, direction: int) -> None:
        """Smooth more or less."""
        self.plot.smoother(direction)

    def action_zoom(self, direction: int) -> None:
        """Show less or more of the x axis."""
        self.plot.zoom(direction)
        self.plot_changed()

    def action_crosshair(self, columns: int) -> None:
        """Move the crosshair."""
        self.plot.move_cursor(columns)
        self.plot_changed()

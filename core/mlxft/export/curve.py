"""The validation curve of a run as an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlxft.text.line_plot import Line, line_plot

CURVE_NAME: Final = "validation.svg"


def curve_svg(points: Sequence[tuple[int, float]]) -> str:
    """Losses over steps with labelled axes; empty without a finite loss."""
    line = Line("", [step for step, _ in points], [loss for _, loss in points])
    title = "Validation loss over training steps"
    return line_plot([line], title, "step", "validation loss")

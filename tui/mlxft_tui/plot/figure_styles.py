"""The title, format and unit of each figure that a plot shows; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from mlxft.text import figures
from mlxft_tui.plot.axes import Unit
from mlxft_tui.plot.curves import Figure


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

OverlaidFigure = Figure | Literal["validation"]

_OF_STEPS: Final[dict[OverlaidFigure, FigureStyle]] = {each: FIGURES[each] for each in FIGURES}

OVERLAID: Final[dict[OverlaidFigure, FigureStyle]] = {
    "loss": FIGURES["loss"],
    "validation": FigureStyle("validation", figures.loss),
    **_OF_STEPS,
}
"""The figures of several runs, in the order in which a key shows them."""

"""Axes of a plot: ranges, ticks and their labels; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
from mlxft_tui.plot.series import Series, finite

Unit = Literal["step", "tokens", "time", "value", "share", "rate", "memory"]
"""How the numbers of an axis are formatted."""


LABEL_WIDTH: Final = 7
"""Cells left of the canvas: six for a label, one for the axis."""


LABEL_HEIGHT: Final = 2
"""Rows below the canvas: the axis and its labels."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The ranges and units of both axes; `log` applies to y."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    log: bool = False
    x_unit: Unit = "step"
    y_unit: Unit = "value"


_LENGTHS: Final = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


_TICKS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


_DECADE: Final = (1.0, 2.0, 5.0, 10.0)


def _up(value: float, ladder: Sequence[float]) -> float:
    """The smallest rung times a power of ten that is at least a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(rung * power for rung in ladder if rung * power >= value * (1 - 1e-9))


def _down(value: float, ladder: Sequence[float]) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(rung * power for rung in reversed(ladder) if rung * power <= value * (1 + 1e-9))


def x_end(last: float, limit: float | None = None, least: float = 10.0) -> float:
    """A round end of the x axis at or past `last`, so that it moves a few times per decade only."""
    end = _up(max(last, least), _LENGTHS)
    return min(end, limit) if limit is not None and limit >= last and limit > 0 else end


def x_window(last: float, end: float, share: float, centre: float | None) -> tuple[float, float]:
    """A share of the x axis around `centre`, or at its end; moves in eighths of its width."""
    width = end * share
    grain = width / 8
    middle = last - width * 3 / 8 if centre is None else centre
    low = math.floor((middle - width / 2) / grain) * grain
    low = min(max(0.0, low), max(0.0, end - width))
    return low, low + width


def y_range(low: float, high: float, log: bool = False) -> tuple[float, float]:
    """Round limits around both values; positive ones if `log`."""
    if log:
        low, high = _down(low, _DECADE), _up(high, _DECADE)
        return (low, high) if low < high else (low / 2, high * 2)
    if low == high:
        pad = abs(low) / 2 or 0.5
        low, high = low - pad, high + pad
    if 0 <= low < high / 3:
        low = 0.0
    step = _up((high - low) / 5, _TICKS)
    bottom, top = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return min(low, float(f"{bottom:.12g}")), max(high, float(f"{top:.12g}"))


def axes_around(
    series: Sequence[Series],
    x_low: float,
    x_high: float,
    *,
    log: bool = False,
    x_unit: Unit = "step",
    y_unit: Unit = "value",
) -> Axes:
    """Axes whose y range holds every finite value between the x limits; 0 to 1 without any."""
    import numpy as np

    lows, highs = [], []
    for each in series:
        x, y = finite(each, log)
        visible = y[np.searchsorted(x, x_low) : np.searchsorted(x, x_high, "right")]
        if len(visible):
            lows.append(float(visible.min()))
            highs.append(float(visible.max()))
    low, high = y_range(min(lows), max(highs), log) if lows else (0.1 if log else 0.0, 1.0)
    return Axes(
        x_low=x_low,
        x_high=x_high,
        y_low=low,
        y_high=high,
        log=log,
        x_unit=x_unit,
        y_unit=y_unit,
    )


def y_ticks(axes: Axes, most: int) -> list[float]:
    """At most `most` round values within the limits, with distinct labels."""
    return _distinct(lambda count: _y_ticks(axes, count), most, axes.y_unit)


def _distinct(ticks_of: Callable[[int], list[float]], most: int, unit: Unit) -> list[float]:
    """The most ticks with distinct labels, or else the first tick of each label."""
    all_ticks = ticks_of(max(2, most))
    for count in range(max(2, most), 1, -1):
        ticks = ticks_of(count)
        if len({*labels(ticks, unit)}) == len(ticks) > min(1, len(all_ticks) - 1):
            return ticks
    last_first = all_ticks[::-1]
    return list(dict(zip(labels(last_first, unit), last_first, strict=True)).values())


def _y_ticks(axes: Axes, most: int) -> list[float]:
    if axes.log:
        decades = range(math.floor(math.log10(axes.y_low)), math.ceil(math.log10(axes.y_high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [digit * 10.0**power for power in decades for digit in digits]
            ticks = [t for t in ticks if axes.y_low * 0.999 <= t <= axes.y_high * 1.001]
            if len(ticks) <= most:
                break
        return ticks[:: math.ceil(len(ticks) / most)] or [axes.y_low, axes.y_high]
    return _linear_ticks(axes.y_low, axes.y_high, most)


def x_ticks(axes: Axes, most: int) -> list[float]:
    """The same for the x axis; minutes and hours for time."""
    return _distinct(lambda count: _x_ticks(axes, count), most, axes.x_unit)


def _x_ticks(axes: Axes, most: int) -> list[float]:
    if axes.x_unit == "time":
        span = axes.x_high - axes.x_low
        rungs = [1, 2, 5, 10, 15, 30, *(60 * m for m in (1, 2, 5, 10, 15, 30, 60, 120, 240, 720))]
        rung = next((r for r in rungs if span / r <= most - 1), 86400 * math.ceil(span / 86400 / 4))
        return _multiples(axes.x_low, axes.x_high, float(rung))
    step = max(1.0, _tick_step(axes.x_low, axes.x_high, most))
    # Steps and tokens are whole.
    whole = step if step.is_integer() else _up(step, _DECADE)
    return _multiples(axes.x_low, axes.x_high, whole)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    return _multiples(low, high, _tick_step(low, high, most))


def _tick_step(low: float, high: float, most: int) -> float:
    return _up((high - low) / max(1, most - 1), _TICKS)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def labels(values: Sequence[float], unit: Unit) -> list[str]:
    """The labels of one axis, each of at most six characters; its numbers share k, M or G."""
    match unit:
        case "time":
            return [_time(value) for value in values]
        case "rate":
            return [_power(value) if value else "0" for value in values]
        case "share":
            return [f"{value * 100:.3g}%" for value in values]
        case "memory":
            return [f"{value / 1e9:.3g}G" for value in values]
        case _:
            largest = max(map(abs, values), default=0.0)
            return [_number(value, largest) for value in values]


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}h{minutes:02}" if hours else f"{minutes}:{left:02}"


def _number(value: float, largest: float) -> str:
    """A number on an axis up to `largest`."""
    size = abs(value)
    if not value or 1e-3 <= size <= largest < 1e4:
        return f"{value:.4g}"
    if size >= 1e12 or size < 1e-3:
        return _power(value)
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= factor and size >= factor / 10:
            texts = (f"{value / factor:.{digits}g}{suffix}" for digits in (4, 3, 2, 1))
            return next((text for text in texts if len(text) < LABEL_WIDTH), _power(value))
    return f"{value:.4g}"


def _power(value: float) -> str:
    """The usual notation: 2e-4, 1.5e-4."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"

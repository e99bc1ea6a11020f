"""Curves as rows of cells; the only module that knows plotext.

plotext only joins points: scales, smoothing, decimation, axes and labels are made here, because
plotext's logarithm, its limits and its cost per point can't be relied on.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final, Literal

from mlxft_tui.cells import Role, Row, Run, joined

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Unit = Literal["step", "tokens", "time", "value", "rate"]
"""How an axis writes its numbers."""

LABEL_WIDTH: Final = 6
"""Columns left of the canvas: five for a label, one for the axis."""

LABEL_HEIGHT: Final = 2
"""Rows below the canvas: the axis and its labels."""

BLOCK_DECAY: Final = 300.0
"""Powers of e over which a block of a moving average reaches: far from what a float can't hold."""

LEAST_BLOCK: Final = 50
"""Values from which a block is faster than one value after the other."""

GRID: Final = 4
"""Cells between the dots of a grid line."""

STRIP: Final = 16
"""About how many columns of curves are drawn and kept together."""


@dataclass(frozen=True)
class Series:
    """One curve, or points where `mark` says with which character; x never falls."""

    x: Sequence[float] | Floats
    y: Sequence[float] | Floats
    role: Role
    mark: str = ""


@dataclass(frozen=True)
class Axes:
    """What part of the plane is drawn; `log` is of the y axis."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    log: bool = False
    x_unit: Unit = "step"
    y_unit: Unit = "value"


# Axes ---------------------------------------------------------------------------------------------

_LENGTHS: Final = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_TICKS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_DECADE: Final = (1.0, 2.0, 5.0, 10.0)


def _up(value: float, ladder: Sequence[float]) -> float:
    """The first rung times a power of ten that is not below a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(rung * power for rung in ladder if rung * power >= value * (1 - 1e-9))


def _down(value: float, ladder: Sequence[float]) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(rung * power for rung in reversed(ladder) if rung * power <= value * (1 + 1e-9))


def x_end(last: float, limit: float | None = None, least: float = 10.0) -> float:
    """A round end of the x axis past `last`, so that it moves a few times a decade only."""
    end = _up(max(last, least), _LENGTHS)
    return min(end, limit) if limit is not None and limit >= last and limit > 0 else end


def x_window(last: float, end: float, share: float, centre: float | None) -> tuple[float, float]:
    """A share of the x axis around `centre`, or at its tail; moves in eighths of its width."""
    width = end * share
    grain = width / 8
    middle = last - width * 3 / 8 if centre is None else centre
    low = math.floor((middle - width / 2) / grain) * grain
    low = min(max(0.0, low), max(0.0, end - width))
    return low, low + width


def y_range(low: float, high: float, log: bool = False) -> tuple[float, float]:
    """Round limits around all of the values; with `log` both are positive."""
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
    log: bool = False,
    x_unit: Unit = "step",
    y_unit: Unit = "value",
) -> Axes:
    """Axes whose y range holds every finite value between the x limits; 0 to 1 where none is."""
    import numpy as np

    lows, highs = [], []
    for each in series:
        x, y = _finite(each, log)
        seen = y[np.searchsorted(x, x_low) : np.searchsorted(x, x_high, "right")]
        if len(seen):
            lows.append(float(seen.min()))
            highs.append(float(seen.max()))
    if not lows:
        return Axes(x_low, x_high, 0.1 if log else 0.0, 1.0, log, x_unit, y_unit)
    low, high = y_range(min(lows), max(highs), log)
    return Axes(x_low, x_high, low, high, log, x_unit, y_unit)


def y_ticks(axes: Axes, most: int) -> list[float]:
    """Round values within the limits, at most so many, no two of which are written alike."""
    return _distinct(lambda count: _y_ticks(axes, count), most, axes.y_unit)


def _distinct(ticks_of: Callable[[int], list[float]], most: int, unit: Unit) -> list[float]:
    """As many ticks up to `most` as have labels of their own, or the first one of each label."""
    all_ticks = ticks_of(max(2, most))
    for count in range(max(2, most), 1, -1):
        ticks = ticks_of(count)
        if len({label(tick, unit) for tick in ticks}) == len(ticks) > min(1, len(all_ticks) - 1):
            return ticks
    return list({label(tick, unit): tick for tick in reversed(all_ticks)}.values())


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
    """The same along the other axis; minutes and hours for time."""
    return _distinct(lambda count: _x_ticks(axes, count), most, axes.x_unit)


def _x_ticks(axes: Axes, most: int) -> list[float]:
    if axes.x_unit == "time":
        span = axes.x_high - axes.x_low
        rungs = [1, 2, 5, 10, 15, 30, *(60 * m for m in (1, 2, 5, 10, 15, 30, 60, 120, 240, 720))]
        rung = next((r for r in rungs if span / r <= most - 1), 86400 * math.ceil(span / 86400 / 4))
        return _multiples(axes.x_low, axes.x_high, float(rung))
    step = max(1.0, _tick_step(axes.x_low, axes.x_high, most))
    # There is no half of a step or a token.
    whole = step if step.is_integer() else _up(step, _DECADE)
    return _multiples(axes.x_low, axes.x_high, whole)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    return _multiples(low, high, _tick_step(low, high, most))


def _tick_step(low: float, high: float, most: int) -> float:
    return _up((high - low) / max(1, most - 1), _TICKS)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def label(value: float, unit: Unit) -> str:
    """A number in at most five characters."""
    if unit == "time":
        hours, rest = divmod(round(value), 3600)
        minutes, seconds = divmod(rest, 60)
        return f"{hours}h{minutes:02}" if hours else f"{minutes}:{seconds:02}"
    if unit == "rate" and value:
        return _rate_label(value)
    size = abs(value)
    if size >= 1e12:
        return f"{value:.0e}"
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor * (1 if factor > 1e3 else 10):
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.4g}" if size >= 1e-3 or not size else f"{value:.0e}"


def _rate_label(value: float) -> str:
    """A learning rate as a whole number of as many digits as it needs: 2e-4, 18e-5."""
    mantissa, exponent = f"{value:.1e}".split("e")
    digits, power = mantissa.replace(".", ""), int(exponent) - 1
    if digits.endswith("0"):
        digits, power = digits[:-1], power + 1
    return f"{digits}e{power}"


def labels(values: Sequence[float], unit: Unit) -> list[str]:
    """The labels of one axis: its rates in the same power of ten where they have room."""
    found = [label(value, unit) for value in values]
    powers = [int(text.split("e")[1]) for text in found if unit == "rate" and "e" in text]
    if powers:
        power = min(powers)
        alike = [f"{round(value / 10.0**power)}e{power}" if value else "0" for value in values]
        if max(map(len, alike)) < LABEL_WIDTH:
            return alike
    return found


# Data ---------------------------------------------------------------------------------------------


def smoothed(
    values: Sequence[float] | Floats, steps: float, counts: Sequence[float] | Floats | None = None
) -> Floats:
    """The debiased exponential moving average over so many steps, one value for each.

    s_t = beta s_(t-1) + (1 - beta) x_t, divided by 1 - beta^t, with beta = 1 - 1 / steps. A value
    that is the mean of several steps, as `counts` tells, weighs as many. Values must be finite.
    """
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    weights = np.ones(len(data)) if counts is None else np.asarray(counts, dtype=np.float64)
    if steps <= 1 or not len(data):
        return data
    decay = weights * math.log(1 - 1 / steps)
    blocks = -float(decay.sum()) / BLOCK_DECAY
    by_blocks = blocks < len(data) / LEAST_BLOCK
    averages = _averages_by_blocks(data, decay) if by_blocks else _averages(data, decay)
    return averages / -np.expm1(np.cumsum(decay))


def _averages(data: Floats, decay: Floats) -> Floats:
    """The moving average, one value after the other; `decay` is the logarithm of what each keeps
    of those before it."""
    import numpy as np

    average = 0.0
    return np.array(
        [
            average := average + gain * (value - average)
            for value, gain in zip(data.tolist(), (-np.expm1(decay)).tolist(), strict=True)
        ]
    )


def _averages_by_blocks(data: Floats, decay: Floats) -> Floats:
    """The same in long blocks at once: within one, all weights are taken from its start."""
    import numpy as np

    total, added = np.cumsum(decay), -np.expm1(decay) * data
    averages = np.empty(len(data))
    average, start = 0.0, 0
    while start < len(data):
        before = total[start - 1] if start else 0.0
        end = max(start + 1, int(np.searchsorted(-total, BLOCK_DECAY - before, "right")))
        kept = np.exp(np.cumsum(decay[start:end]))
        if kept[-1]:
            averages[start:end] = kept * (average + np.cumsum(added[start:end] / kept))
        else:
            averages[start] = added[start]  # Nothing of what was before is left.
        average, start = averages[end - 1], end
    return averages


def decimated(x: Floats, y: Floats, low: float, high: float, buckets: int) -> tuple[Floats, Floats]:
    """Of each bucket between the x limits its lowest and highest point, and a neighbour outside.

    Points stay where they are, so that no spike is lost and no value invented.
    """
    import numpy as np

    edges = np.searchsorted(x, np.linspace(low, high, buckets + 1))
    last = int(np.searchsorted(x, high, "right"))
    chosen = {max(0, int(edges[0]) - 1), min(last, len(x) - 1)} if len(x) else set()
    for start, end in pairwise([*edges.tolist()[:-1], last]):
        if start < end:
            part = y[start:end]
            chosen |= {start + int(part.argmin()), start + int(part.argmax())}
    index = sorted(chosen)
    return x[index], y[index]


def _finite(series: Series, log: bool) -> tuple[Floats, Floats]:
    """The points that can be drawn: finite, and positive on a logarithmic axis."""
    import numpy as np

    x = np.asarray(series.x, dtype=np.float64)
    y = np.asarray(series.y, dtype=np.float64)
    good = np.isfinite(x) & np.isfinite(y)
    if log:
        good &= y > 0
    return (x, y) if good.all() else (x[good], y[good])


# Drawing ------------------------------------------------------------------------------------------


def column(axes: Axes, width: int, x: float) -> int:
    """The canvas column of an x value, as plotext places it."""
    return round((x - axes.x_low) / (axes.x_high - axes.x_low) * (width - 1))


def _line(axes: Axes, height: int, y: float) -> int:
    """The canvas row of a y value, from the top."""
    low, high = _y(axes.y_low, axes.log), _y(axes.y_high, axes.log)
    return height - 1 - round((_y(y, axes.log) - low) / (high - low) * (height - 1))


def _y(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def draw(
    series: Sequence[Series],
    axes: Axes,
    width: int,
    height: int,
    *,
    cursor: float | None = None,
    ticks: Sequence[tuple[float, str, Role]] = (),
    ascii_only: bool = False,
) -> tuple[Row, ...]:
    """The chart with its axes as `height` rows of `width` cells.

    Later series lie on earlier ones. `cursor` is an x value with a line through it; `ticks` are
    characters on the x axis. Empty where there is no room for a canvas.
    """
    columns, lines = width - LABEL_WIDTH, height - LABEL_HEIGHT
    if columns < 4 or lines < 2:
        return ()
    cells = _curves([each for each in series if not each.mark], axes, columns, lines, ascii_only)
    marks = _ASCII if ascii_only else _UNICODE
    heights = {_line(axes, lines, tick): tick for tick in y_ticks(axes, lines // 3 + 2)}
    for row in heights:
        _underlay(cells[row], marks.grid)
    if cursor is not None and axes.x_low <= cursor <= axes.x_high:
        at = column(axes, columns, cursor)
        for line in cells:
            if line[at][1] in ("plain", "faint"):
                line[at] = (marks.cursor, "cursor")
    for each in series:
        if each.mark:
            _place(each, axes, cells)
    told = dict(zip(heights, labels(list(heights.values()), axes.y_unit), strict=True))
    rows = [joined([*_left(told.get(row), marks), *cells[row]]) for row in range(lines)]
    return (*rows, *_bottom(axes, columns, ticks, marks))


def curve_rows(
    series: Sequence[Series], axes: Axes, width: int, height: int, ascii_only: bool = False
) -> tuple[Row, ...]:
    """Only the curves, without axes and labels: a sparkline."""
    return tuple(joined(row) for row in _curves(series, axes, width, height, ascii_only))


@dataclass(frozen=True)
class _Characters:
    side: str
    side_tick: str
    corner: str
    floor: str
    floor_tick: str
    grid: str
    cursor: str


_UNICODE: Final = _Characters("│", "┤", "└", "─", "┬", "·", "│")
_ASCII: Final = _Characters("|", "+", "+", "-", "+", " ", ":")
_ASCII_CURVES: Final[dict[Role, str]] = {
    "raw": ".",
    "smooth": "*",
    "first": "1",
    "second": "2",
    "third": "3",
}


Dots = tuple[Role, tuple[int, ...], tuple[int, ...]]
"""A curve on the canvas's grid of dots, two by four a cell, from its lower left corner."""


def _curves(
    series: Sequence[Series], axes: Axes, width: int, height: int, ascii_only: bool
) -> list[list[Run]]:
    """The canvas's cells, from strips side by side: a new point has but one of them drawn anew."""
    dots = [_dots(each, axes, width, height) for each in series]
    count = max(1, round(width / STRIP))
    edges = [width * number // count for number in range(count + 1)]
    strips = [
        _strip(tuple(_between(each, *ends) for each in dots), *ends, height, ascii_only)
        for ends in pairwise(edges)
    ]
    return [list(chain.from_iterable(parts)) for parts in zip(*strips, strict=True)]


def _dots(series: Series, axes: Axes, width: int, height: int) -> Dots:
    import numpy as np

    x, y = _finite(series, axes.log)
    x, y = decimated(x, y, axes.x_low, axes.x_high, 2 * width)
    low, high = _y(axes.y_low, axes.log), _y(axes.y_high, axes.log)
    y = np.log10(y) if axes.log else y
    across = np.rint((x - axes.x_low) / (axes.x_high - axes.x_low) * (2 * width - 1))
    up = np.rint((y - low) / (high - low) * (4 * height - 1))
    return series.role, tuple(across.astype(int).tolist()), tuple(up.astype(int).tolist())


def _between(curve: Dots, first: int, end: int) -> Dots:
    """The dots of some columns, with the point where the line comes in and the next dot outside.

    plotext rounds towards zero, so that a line from the left of its canvas would be bent.
    """
    role, across, up = curve
    left = 2 * first
    start, stop = bisect_left(across, left), bisect_left(across, 2 * end)
    if stop == 0 or start == len(across):
        return role, (), ()
    kept = slice(start, stop + 1)
    if start == 0 or across[start] == left:
        return role, across[kept], up[kept]
    way = (left - across[start - 1]) / (across[start] - across[start - 1])
    enters = round(up[start - 1] + way * (up[start] - up[start - 1]))
    return role, (left, *across[kept]), (enters, *up[kept])


@lru_cache(maxsize=128)
def _strip(
    curves: tuple[Dots, ...], first: int, end: int, height: int, ascii_only: bool
) -> tuple[tuple[Run, ...], ...]:
    """The dots of some columns joined by plotext, as cells."""
    import plotext

    _canvas()
    width = end - first
    plotext.clear_data()
    plotext.plot_size(width, height)
    plotext.xlim(2 * first, 2 * end - 1)
    plotext.ylim(0, 4 * height - 1)
    drawn = [each for each in curves if each[1]]
    for number, (role, across, up) in enumerate(drawn, 1):
        marker = _ASCII_CURVES.get(role, "o") if ascii_only else "braille"
        plotext.plot(across, up, marker=marker, color=number)
    painted = plotext.build() if drawn else ""
    roles: list[Role] = [role for role, _, _ in drawn]
    rows = [tuple(_cells(line, roles, width)) for line in painted.splitlines()[:height]]
    blank: Run = (" ", "plain")
    return (*rows, *(((blank,) * width,) * (height - len(rows))))


@cache
def _canvas() -> None:
    """Have plotext's figure be all canvas, once: clearing it takes longer than most drawings."""
    import plotext

    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.frame(False)
    plotext.xticks([])
    plotext.yticks([])


_SGR: Final = re.compile(r"\x1b\[([0-9;]*)m")


def _cells(line: str, roles: Sequence[Role], width: int) -> list[Run]:
    """plotext's line with its colours, which are the series' numbers, read back as roles."""
    cells: list[Run] = []
    role: Role = "plain"
    for index, part in enumerate(_SGR.split(line)):
        if index % 2:
            number = part.rpartition("38;5;")[2] if "38;5;" in part else ""
            role = roles[int(number) - 1] if number else "plain"
        else:
            cells += [(character, role if character != " " else "plain") for character in part]
    return (cells + [(" ", "plain")] * width)[:width]


def _underlay(row: list[Run], mark: str) -> None:
    """A dotted line where the row is empty; sparse, since each changed row is sent again."""
    for at in range(GRID - 1, len(row), GRID):
        if row[at][1] == "plain":
            row[at] = (mark, "faint")


def _place(points: Series, axes: Axes, cells: list[list[Run]]) -> None:
    """Marks where the points are; of many in a column the lowest and the highest are enough."""
    x, y = _finite(points, axes.log)
    x, y = decimated(x, y, axes.x_low, axes.x_high, len(cells[0]))
    for each_x, each_y in zip(x.tolist(), y.tolist(), strict=True):
        if axes.x_low <= each_x <= axes.x_high:
            row = cells[_line(axes, len(cells), each_y)]
            row[column(axes, len(row), each_x)] = (points.mark, points.role)


def _left(told: str | None, marks: _Characters) -> list[Run]:
    if told is None:
        return [(" " * (LABEL_WIDTH - 1), "muted"), (marks.side, "faint")]
    text = told[: LABEL_WIDTH - 1].rjust(LABEL_WIDTH - 1)
    return [(text, "muted"), (marks.side_tick, "faint")]


def _bottom(
    axes: Axes, columns: int, ticks: Sequence[tuple[float, str, Role]], marks: _Characters
) -> tuple[Row, Row]:
    floor: list[Run] = [(marks.floor, "faint")] * columns
    labels = [" "] * columns
    free = 0
    for value in x_ticks(axes, columns // 10 + 1):
        at = column(axes, columns, value)
        floor[at] = (marks.floor_tick, "faint")
        text = label(value, axes.x_unit)
        start = min(max(free, at - len(text) // 2), columns - len(text))
        if start >= free:
            labels[start : start + len(text)] = text
            free = start + len(text) + 2
    for value, character, role in ticks:
        if axes.x_low <= value <= axes.x_high:
            floor[column(axes, columns, value)] = (character, role)
    margin = " " * (LABEL_WIDTH - 1)
    return (
        joined([(margin, "muted"), (marks.corner, "faint"), *floor]),
        ((margin + " " + "".join(labels), "muted"),),
    )

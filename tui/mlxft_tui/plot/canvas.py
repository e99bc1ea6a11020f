"""Curves as rows of cells, drawn by plotext; the only module that knows it."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

from mlxft_tui.text.cells import Role, Row, Span, joined

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
from mlxft_tui.plot.axes import LABEL_HEIGHT, LABEL_WIDTH, Axes, label, labels, x_ticks, y_ticks
from mlxft_tui.plot.series import Series, decimated, finite

GRID: Final = 4
"""Cells between the dots of a grid line."""


STRIP: Final = 16
"""About how many columns of curves are drawn and kept together."""


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
) -> list[list[Span]]:
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

    x, y = finite(series, axes.log)
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
) -> tuple[tuple[Span, ...], ...]:
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
    blank: Span = (" ", "plain")
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


def _cells(line: str, roles: Sequence[Role], width: int) -> list[Span]:
    """plotext's line with its colours, which are the series' numbers, read back as roles."""
    cells: list[Span] = []
    role: Role = "plain"
    for index, part in enumerate(_SGR.split(line)):
        if index % 2:
            number = part.rpartition("38;5;")[2] if "38;5;" in part else ""
            role = roles[int(number) - 1] if number else "plain"
        else:
            cells += [(character, role if character != " " else "plain") for character in part]
    return (cells + [(" ", "plain")] * width)[:width]


def _underlay(row: list[Span], mark: str) -> None:
    """A dotted line where the row is empty; sparse, since each changed row is sent again."""
    for at in range(GRID - 1, len(row), GRID):
        if row[at][1] == "plain":
            row[at] = (mark, "faint")


def _place(points: Series, axes: Axes, cells: list[list[Span]]) -> None:
    """Marks where the points are; of many in a column the lowest and the highest are enough."""
    x, y = finite(points, axes.log)
    x, y = decimated(x, y, axes.x_low, axes.x_high, len(cells[0]))
    for each_x, each_y in zip(x.tolist(), y.tolist(), strict=True):
        if axes.x_low <= each_x <= axes.x_high:
            row = cells[_line(axes, len(cells), each_y)]
            row[column(axes, len(row), each_x)] = (points.mark, points.role)


def _left(told: str | None, marks: _Characters) -> list[Span]:
    if told is None:
        return [(" " * (LABEL_WIDTH - 1), "muted"), (marks.side, "faint")]
    text = told[: LABEL_WIDTH - 1].rjust(LABEL_WIDTH - 1)
    return [(text, "muted"), (marks.side_tick, "faint")]


def _bottom(
    axes: Axes, columns: int, ticks: Sequence[tuple[float, str, Role]], marks: _Characters
) -> tuple[Row, Row]:
    floor: list[Span] = [(marks.floor, "faint")] * columns
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

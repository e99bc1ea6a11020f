"""Curves as rows of cells; the only module that uses plotext."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

from mlxft_tui.text.cells import Role, Row, Span, joined

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
from mlxft_tui.plot.axes import LABEL_HEIGHT, LABEL_WIDTH, Axes, labels, x_ticks, y_ticks
from mlxft_tui.plot.series import Series, decimated, finite

GRID: Final = 4
"""Distance of the dots of a grid line, in cells."""


STRIP: Final = 16
"""Approximate width of a strip of the canvas that is drawn and cached as one."""


def column(axes: Axes, width: int, x: float) -> int:
    """The canvas column of an x value, rounded as plotext does."""
    return round((x - axes.x_low) / (axes.x_high - axes.x_low) * (width - 1))


def _row_of(axes: Axes, height: int, y: float) -> int:
    """The canvas row of a y value, counted from the top."""
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
    """The chart with its axes as `height` rows of `width` cells; empty if too small for a canvas.

    Later series cover earlier ones. `cursor` is the x value of a vertical line; `ticks` are
    characters on the x axis.
    """
    columns, lines = width - LABEL_WIDTH, height - LABEL_HEIGHT
    if columns < 4 or lines < 2:
        return ()
    cells = _curves([each for each in series if not each.mark], axes, columns, lines, ascii_only)
    points = [each for each in series if each.mark]
    return framed(cells, axes, cursor=cursor, points=points, ticks=ticks, ascii_only=ascii_only)


def framed(
    cells: list[list[Span]],
    axes: Axes,
    *,
    cursor: float | None = None,
    points: Sequence[Series] = (),
    ticks: Sequence[tuple[float, str, Role]] = (),
    ascii_only: bool = False,
) -> tuple[Row, ...]:
    """A canvas with grid, crosshair, points and axes around it."""
    lines, columns = len(cells), len(cells[0])
    glyphs = _ASCII if ascii_only else _UNICODE
    heights = {_row_of(axes, lines, tick): tick for tick in y_ticks(axes, lines // 3 + 2)}
    for row in heights:
        _underlay(cells[row], glyphs.grid)
    if cursor is not None and axes.x_low <= cursor <= axes.x_high:
        at = column(axes, columns, cursor)
        for line in cells:
            if line[at][1] in ("plain", "faint"):
                line[at] = (glyphs.cursor, "cursor")
    for each in points:
        _put_marks(each, axes, cells)
    labelled = dict(zip(heights, labels(list(heights.values()), axes.y_unit), strict=True))
    rows = [joined([*_left_axis(labelled.get(row), glyphs), *cells[row]]) for row in range(lines)]
    return (*rows, *_bottom_axis(axes, columns, ticks, glyphs))


def strips(
    series: Sequence[Series], axes: Axes, width: int, height: int, *, ascii_only: bool = False
) -> list[Callable[[], object]]:
    """The parts of the work that `draw` does; what is done of it before, `draw` finds cached."""
    columns, lines = width - LABEL_WIDTH, height - LABEL_HEIGHT
    if columns < 4 or lines < 2:
        return []
    return [*_strips([each for each in series if not each.mark], axes, columns, lines, ascii_only)]


def curve_rows(
    series: Sequence[Series], axes: Axes, width: int, height: int, ascii_only: bool = False
) -> tuple[Row, ...]:
    """The curves without axes: a sparkline."""
    return tuple(joined(row) for row in _curves(series, axes, width, height, ascii_only))


@dataclass(frozen=True, kw_only=True)
class _Glyphs:
    side: str
    side_tick: str
    corner: str
    floor: str
    floor_tick: str
    grid: str
    cursor: str


_UNICODE: Final = _Glyphs(
    side="│", side_tick="┤", corner="└", floor="─", floor_tick="┬", grid="·", cursor="│"
)


_ASCII: Final = _Glyphs(
    side="|", side_tick="+", corner="+", floor="-", floor_tick="+", grid=" ", cursor=":"
)


_ASCII_CURVES: Final[dict[Role, str]] = {
    "raw": ".",
    "smooth": "*",
    "first": "1",
    "second": "2",
    "third": "3",
}


DotCurve = tuple[Role, tuple[int, ...], tuple[int, ...]]
"""A curve's role, x and y on the canvas's grid of dots: 2 × 4 per cell, from the lower left."""


def _curves(
    series: Sequence[Series], axes: Axes, width: int, height: int, ascii_only: bool
) -> list[list[Span]]:
    """The canvas's cells in cached strips, so that a new point redraws one strip only."""
    strips = [draw() for draw in _strips(series, axes, width, height, ascii_only)]
    return [list(chain.from_iterable(parts)) for parts in zip(*strips, strict=True)]


def _strips(
    series: Sequence[Series], axes: Axes, width: int, height: int, ascii_only: bool
) -> list[Callable[[], tuple[tuple[Span, ...], ...]]]:
    dots = [_dots(each, axes, width, height) for each in series]
    count = max(1, round(width / STRIP))
    edges = [width * number // count for number in range(count + 1)]
    return [
        partial(_strip, tuple(_clipped(each, *ends) for each in dots), *ends, height, ascii_only)
        for ends in pairwise(edges)
    ]


def _dots(series: Series, axes: Axes, width: int, height: int) -> DotCurve:
    import numpy as np

    x, y = finite(series, axes.log)
    x, y = decimated(x, y, axes.x_low, axes.x_high, 2 * width)
    low, high = _y(axes.y_low, axes.log), _y(axes.y_high, axes.log)
    y = np.log10(y) if axes.log else y
    across = np.rint((x - axes.x_low) / (axes.x_high - axes.x_low) * (2 * width - 1))
    up = np.rint((y - low) / (high - low) * (4 * height - 1))
    return series.role, tuple(across.astype(int).tolist()), tuple(up.astype(int).tolist())


def _clipped(curve: DotCurve, first: int, end: int) -> DotCurve:
    """A curve's dots in some columns, with its entry point on the left and the next dot outside.

    plotext rounds towards zero, which would bend a line that starts left of its canvas.
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
    curves: tuple[DotCurve, ...], first: int, end: int, height: int, ascii_only: bool
) -> tuple[tuple[Span, ...], ...]:
    """Some columns of the canvas, the dots joined by plotext."""
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
    """Set plotext's figure up once: clearing it takes longer than most drawings."""
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
    """A grid line in the row's empty cells; sparse, since each changed row is sent again."""
    for at in range(GRID - 1, len(row), GRID):
        if row[at][1] == "plain":
            row[at] = (mark, "faint")


def _put_marks(points: Series, axes: Axes, cells: list[list[Span]]) -> None:
    """Draw the points' marks; of many in a column only the lowest and the highest."""
    x, y = finite(points, axes.log)
    x, y = decimated(x, y, axes.x_low, axes.x_high, len(cells[0]))
    for each_x, each_y in zip(x.tolist(), y.tolist(), strict=True):
        if axes.x_low <= each_x <= axes.x_high:
            row = cells[_row_of(axes, len(cells), each_y)]
            row[column(axes, len(row), each_x)] = (points.mark, points.role)


def _left_axis(tick: str | None, glyphs: _Glyphs) -> list[Span]:
    if tick is None:
        return [(" " * (LABEL_WIDTH - 1), "muted"), (glyphs.side, "faint")]
    text = tick[: LABEL_WIDTH - 1].rjust(LABEL_WIDTH - 1)
    return [(text, "muted"), (glyphs.side_tick, "faint")]


def _bottom_axis(
    axes: Axes, columns: int, ticks: Sequence[tuple[float, str, Role]], glyphs: _Glyphs
) -> tuple[Row, Row]:
    floor: list[Span] = [(glyphs.floor, "faint")] * columns
    below = [" "] * columns
    free = 0
    values = x_ticks(axes, columns // 10 + 1)
    for value, text in zip(values, labels(values, axes.x_unit), strict=True):
        at = column(axes, columns, value)
        floor[at] = (glyphs.floor_tick, "faint")
        start = min(max(free, at - len(text) // 2), columns - len(text))
        if start >= free:
            below[start : start + len(text)] = text
            free = start + len(text) + 2
    for value, character, role in ticks:
        if axes.x_low <= value <= axes.x_high:
            floor[column(axes, columns, value)] = (character, role)
    margin = " " * (LABEL_WIDTH - 1)
    return (
        joined([(margin, "muted"), (glyphs.corner, "faint"), *floor]),
        ((margin + " " + "".join(below), "muted"),),
    )

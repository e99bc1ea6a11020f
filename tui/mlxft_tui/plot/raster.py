"""Many curves as one canvas of braille dots, in less time than a key may take; pure.

plotext's time grows with curves times points: 50 curves take it more than a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mlxft_tui.plot.axes import Axes
from mlxft_tui.plot.series import Series, finite
from mlxft_tui.text.cells import Role, Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Canvas = NDArray[np.int32]

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille cell's dots, row by row."""

_BLANK: Final = 0x2800
"""The braille character without a dot."""


NUMBER_EVERY: Final = 24
"""Columns from one number on a curve to its next."""


def raster(
    series: Sequence[Series],
    axes: Axes,
    width: int,
    height: int,
    marks: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> list[list[Span]]:
    """The canvas's cells, row by row; later series have the colour of a cell that both cross.

    Every value's dot is set, so no spike is lost. With `marks`, a character for each series, whole
    cells are drawn instead of dots; with `numbers`, each series has its own on it.
    """
    import numpy as np

    across, down = (1, 1) if marks else (2, 4)
    bits = np.zeros((height, width), dtype=np.int32)
    owner = np.full((height, width), -1)
    weights = np.array(_DOTS, dtype=np.int32)[:down, :across]
    for number, each in enumerate(series):
        low, high = spans(each, axes, across * width, down * height)
        dots = np.arange(down * height)[:, None]
        lit = (dots >= low) & (dots <= high)
        # Dots are counted from below, a cell's bits from above.
        cells = lit.reshape(height, down, width, across)[::-1, ::-1]
        found = np.einsum("hdwa,da->hw", cells, weights, dtype=np.int32)
        bits |= found
        owner[found > 0] = number
    roles: list[Role] = [*(each.role for each in series), "plain"]
    rows = [
        [
            (_character(dots, number, marks), roles[number])
            for dots, number in zip(line, owners, strict=True)
        ]
        for line, owners in zip(bits.tolist(), owner.tolist(), strict=True)
    ]
    for number, text in enumerate(numbers):
        _write_number(rows, text, number, len(numbers), owner)
    return rows


def _write_number(
    rows: list[list[Span]], text: str, number: int, count: int, owner: Canvas
) -> None:
    """Write a series' number over its own cells, at its end and along it.

    Each series has other columns, so that curves close to each other don't hide their numbers.
    """
    import numpy as np

    columns = np.flatnonzero((owner == number).any(axis=0))
    offset = number * NUMBER_EVERY // count
    free = columns[columns < columns[-1] - 2 * len(text)] if len(columns) else columns
    wanted = [each for each in free if (each - offset) % NUMBER_EVERY == 0]
    for column in (*wanted, *columns[-1:]):
        row = int(np.flatnonzero(owner[:, column] == number)[0])
        first = min(int(column), len(rows[row]) - len(text))
        for at, character in enumerate(text):
            rows[row][first + at] = (character, rows[row][int(column)][1])


def _character(dots: int, number: int, marks: Sequence[str]) -> str:
    if number < 0:
        return " "
    return marks[number] if marks else chr(_BLANK + dots)


def spans(series: Series, axes: Axes, columns: int, rows: int) -> tuple[Floats, Floats]:
    """The lowest and the highest dot of a curve in each column; an empty span has low > high.

    A line between two columns is drawn half in each.
    """
    import numpy as np

    low = np.full(columns, float(rows))
    high = np.full(columns, -1.0)
    x, y = finite(series, axes.log)
    if not len(x):
        return low, high
    at = (x - axes.x_low) / (axes.x_high - axes.x_low) * (columns - 1)
    bottom, top = (math.log10(each) if axes.log else each for each in (axes.y_low, axes.y_high))
    up = ((np.log10(y) if axes.log else y) - bottom) / (top - bottom) * (rows - 1)
    first, last = max(0, math.ceil(at[0] - 0.5)), min(columns - 1, math.floor(at[-1] + 0.5))
    if first > last:
        return low, high
    drawn = np.arange(first, last + 1)
    # Where the line is at both edges of each column, and the points between them.
    edges = np.rint(np.interp(np.arange(first, last + 2) - 0.5, at, up))
    low[drawn] = np.minimum(edges[:-1], edges[1:])
    high[drawn] = np.maximum(edges[:-1], edges[1:])
    column = np.floor(at + 0.5).astype(int)
    inside = (column >= first) & (column <= last)
    dots = np.rint(up[inside])
    np.minimum.at(low, column[inside], dots)
    np.maximum.at(high, column[inside], dots)
    return low, high

"""A histogram of record lengths in block characters, with the cutoff for long ones."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from mlxft.data.token_figures import Bin
from mlxft.text import figures
from mlxft_tui.text.theme import MUTED

_EIGHTHS = " ▁▂▃▄▅▆▇█"

_CUT_MARK = "┊"

HIGHEST = 12
"""Most rows of a column; more would add nothing."""


def column_rows(
    bins: Sequence[Bin], width: int, height: int, cut: int | None = None
) -> list[Content]:
    """The histogram from the top row down, above an axis from the shortest to the longest.

    Columns with lengths above `cut` have another colour; the axis marks the first of them.
    """
    height = min(height - 1, HIGHEST)
    if height < 1 or width < 8 or not bins:
        return []
    merged = _merged(bins, width)
    highest = max(each.count for each in merged)
    cells = max(1, width // len(merged))
    # A bin with a single record must not vanish next to a high one.
    eighths = [
        max(1, round(each.count / highest * height * 8)) if each.count else 0 for each in merged
    ]
    short = sum(1 for each in merged if cut is None or each.low <= cut)
    rows = []
    for row in range(height - 1, -1, -1):
        blocks = [_EIGHTHS[max(0, min(8, each - row * 8))] * cells for each in eighths]
        rows.append(
            Content.assemble(
                ("".join(blocks[:short]), "$primary 70%"), ("".join(blocks[short:]), "$error 80%")
            )
        )
    return [*rows, _axis(merged, cells, short, cut)]


def _merged(bins: Sequence[Bin], width: int) -> list[Bin]:
    """Bins merged to at most one per column."""
    size = -(-len(bins) // width)
    groups = [bins[at : at + size] for at in range(0, len(bins), size)]
    return [
        Bin(group[0].low, group[-1].high, sum(each.count for each in group)) for group in groups
    ]


def _axis(bins: Sequence[Bin], cells: int, short: int, cut: int | None) -> Content:
    """Shortest, cutoff and longest, each under its column if space allows."""
    line = figures.count(bins[0].low)
    longest = figures.count(bins[-1].high)
    width = cells * len(bins)
    if cut is not None and short < len(bins):
        mark = f"{_CUT_MARK}{figures.count(cut)}"
        at = short * cells
        if len(line) < at and at + len(mark) < width - len(longest):
            line = line.ljust(at) + mark
    return Content.styled(line + longest.rjust(width - len(line)), MUTED)

"""Rows of text with roles, drawn by pure code and painted by `CellView` in theme colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from rich.cells import cell_len, chop_cells, set_cell_size

Role = Literal[
    "plain",
    "strong",
    "muted",
    "faint",
    "raw",
    "smooth",
    "other",
    "first",
    "second",
    "third",
    "run_1",
    "run_2",
    "run_3",
    "run_4",
    "run_5",
    "run_6",
    "validation",
    "best",
    "cursor",
    "bar",
    "good",
    "warning",
    "bad",
]
"""What a piece of text means; the theme defines its style."""

Span = tuple[str, Role]
"""Neighbouring cells of one role."""

Row = tuple[Span, ...]
"""One screen line, left to right."""


def joined(spans: Iterable[Span]) -> Row:
    """Merge neighbouring spans of the same role."""
    return tuple(
        ("".join(text for text, _ in group), role)
        for role, group in groupby(spans, key=lambda span: span[1])
    )


def plain_text(row: Row) -> str:
    """The row without its roles."""
    return "".join(text for text, _ in row)


def width_of(row: Row) -> int:
    """The row's width in cells."""
    return sum(cell_len(text) for text, _ in row)


def cropped(row: Row, width: int) -> Row:
    """The row in at most `width` cells, ending in … if truncated."""
    if width_of(row) <= width:
        return row
    kept: list[Span] = []
    left = width - 1
    for text, role in row:
        length = cell_len(text)
        if length > left:
            return (*kept, (set_cell_size(text, max(0, left)) + "…", role))
        kept.append((text, role))
        left -= length
    return tuple(kept)


def shortened(text: str, width: int) -> str:
    """A name in at most `width` cells; what is left out is its middle, since names differ at their
    ends."""
    if cell_len(text) <= width:
        return text
    end = max(0, width - 1) // 2
    tail = len(text)
    while tail and cell_len(text[tail - 1 :]) <= end:
        tail -= 1
    return set_cell_size(text, max(0, width - 1 - cell_len(text[tail:]))) + "…" + text[tail:]


def tail(path: str, width: int) -> str:
    """A path in at most `width` cells; what is left out is its beginning, since its end names what
    it is."""
    if cell_len(path) <= width:
        return path
    while path and cell_len(path) >= width:
        path = path[1:]
    return f"…{path}"


def spread(left: Row, right: Row, width: int) -> Row:
    """One row with a part at each end, truncating the left one if needed."""
    right = cropped(right, width)
    left = cropped(left, max(0, width - width_of(right) - 1))
    return (*left, (" " * max(0, width - width_of(left) - width_of(right)), "plain"), *right)


def heading(left: Row, right: Row, width: int) -> Row:
    """A ruled line with a title at the left and, if it fits, a note at the right."""
    left = (("─ ", "faint"), *cropped(left, max(0, width - 3)), (" ", "plain"))
    end: Row = ((" ", "plain"), *right, (" ─", "faint"))
    if not width_of(right) or width_of(left) + width_of(end) > width:
        end = ()
    gap = max(0, width - width_of(left) - width_of(end))
    return cropped((*left, ("─" * gap, "faint"), *end), width)


def separated(parts: Sequence[Row], gap: str) -> Row:
    """The parts side by side."""
    spans: list[Span] = []
    for part in parts:
        spans += [*([(gap, "plain")] if spans else []), *part]  # type: ignore[list-item]
    return tuple(spans)


def packed(parts: Sequence[Row], gap: str, width: int, indent: str = "") -> list[Row]:
    """The parts side by side, in further rows, which are indented, where they don't fit."""
    rows: list[Row] = []
    for part in parts:
        longer = separated([*rows[-1:], part], gap)
        if rows and width_of(longer) <= width:
            rows[-1] = longer
        else:
            rows.append(((indent, "plain"), *part) if rows else part)
    return rows


def wrapped(text: str, role: Role, width: int, indent: str = "") -> list[Row]:
    """Wrap text over rows; all but the first start with the indent."""
    lines = textwrap.wrap(text, max(1, width), subsequent_indent=indent)
    # textwrap counts characters; wide ones take two cells.
    return [((part, role),) for line in lines for part in chop_cells(line, max(2, width))]

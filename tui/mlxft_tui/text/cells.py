"""Rows of text with roles: what pure code draws and a `CellView` paints in the theme's colours."""

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
    "validation",
    "best",
    "cursor",
    "bar",
    "good",
    "warning",
    "bad",
]
"""What a piece of text is; the theme says how that looks."""

Span = tuple[str, Role]
"""Neighbouring cells of one role."""

Row = tuple[Span, ...]
"""One line of the screen, left to right."""


def joined(runs: Iterable[Span]) -> Row:
    """The same text with neighbours of one role made one run."""
    return tuple(
        ("".join(text for text, _ in group), role)
        for role, group in groupby(runs, key=lambda run: run[1])
    )


def plain_text(row: Row) -> str:
    """The row without its roles."""
    return "".join(text for text, _ in row)


def width_of(row: Row) -> int:
    """The row's length in cells."""
    return sum(cell_len(text) for text, _ in row)


def cropped(row: Row, width: int) -> Row:
    """The row in no more cells than that, ending in … where it was cut."""
    if width_of(row) <= width:
        return row
    kept: list[Span] = []
    room = width - 1
    for text, role in row:
        length = cell_len(text)
        if length > room:
            return (*kept, (set_cell_size(text, max(0, room)) + "…", role))
        kept.append((text, role))
        room -= length
    return tuple(kept)


def spread(left: Row, right: Row, width: int) -> Row:
    """One row with a part at each end; the left one gives way."""
    right = cropped(right, width)
    left = cropped(left, max(0, width - width_of(right) - 1))
    return (*left, (" " * max(0, width - width_of(left) - width_of(right)), "plain"), *right)


def heading(left: Row, right: Row, width: int) -> Row:
    """A ruled line with a title at its left and, where there is room, a note at its right."""
    left = (("─ ", "faint"), *cropped(left, max(0, width - 3)), (" ", "plain"))
    end: Row = ((" ", "plain"), *right, (" ─", "faint"))
    if not width_of(right) or width_of(left) + width_of(end) > width:
        end = ()
    gap = max(0, width - width_of(left) - width_of(end))
    return cropped((*left, ("─" * gap, "faint"), *end), width)


def separated(parts: Sequence[Row], gap: str) -> Row:
    """The parts side by side."""
    runs: list[Span] = []
    for part in parts:
        runs += [*([(gap, "plain")] if runs else []), *part]  # type: ignore[list-item]
    return tuple(runs)


def wrapped(text: str, role: Role, width: int, indent: str = "") -> list[Row]:
    """Text over as many rows as it takes; later ones begin with the indent."""
    lines = textwrap.wrap(text, max(1, width), subsequent_indent=indent)
    # textwrap counts characters; wide ones take two cells.
    return [((part, role),) for line in lines for part in chop_cells(line, max(2, width))]

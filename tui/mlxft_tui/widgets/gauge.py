"""Bars that show how much of something is used."""

from __future__ import annotations

from collections.abc import Mapping

from mlxft_tui.text.cells import Role, Row, Span, joined


def bar(
    share: float | None, width: int, role: Role = "bar", marks: Mapping[float, Span] | None = None
) -> Row:
    """A bar of `width` cells filled to `share` of 1, with `marks` at their shares."""
    full = 0 if share is None else round(min(max(share, 0.0), 1.0) * width)
    cells: list[Span] = [("━", role)] * full + [("─", "faint")] * (width - full)
    for at, mark in (marks or {}).items():
        cells[min(max(0, round(at * width)), width - 1)] = mark
    return joined(cells)


def load_role(share: float | None, warning: float, bad: float) -> Role:
    """The role of a share with these thresholds."""
    if share is None or share < warning:
        return "bar"
    return "warning" if share < bad else "bad"


def percent(share: float | None) -> str:
    """A share in four cells, or a dash."""
    return "—".rjust(4) if share is None else f"{share:4.0%}"

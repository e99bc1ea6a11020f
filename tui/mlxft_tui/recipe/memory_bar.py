"""Memory as a stacked bar against the machine's limit, with a legend of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual.content import Content

from mlxft.memory.confidence import Assumptions, confidence
from mlxft.text import figures
from mlxft_tui.text.theme import FAINT, MUTED

if TYPE_CHECKING:
    from mlxft.memory.estimator import MemoryEstimate

FILLS: Final = {
    "weights": ("█", "$primary"),
    "adapter": ("▓", "$accent"),
    "gradients": ("▒", "$warning"),
    "optimizer": ("▓", "$secondary"),
    "activations": ("█", "$success"),
    "loss": ("▒", "$error 80%"),
    "cache": ("░", "$foreground 60%"),
    "base": ("▚", "$foreground 40%"),
}
"""Each part's character and colour; adjacent parts differ in both."""

NAMES: Final = {"base": "process"}
"""Parts with another label."""


MEASURING: Final = "measuring records…"

SMALL_SHARE: Final = 0.02
"""Share of the total below which a part is omitted if there are few lines."""


TWO_COLUMNS: Final = 50
"""Cells from which the legend has two columns."""


def memory_note(
    estimate: MemoryEstimate,
    assumptions: Assumptions,
    width: int,
    *,
    brief: bool = False,
    refusal: str = "",
    is_measuring: bool = False,
) -> Content:
    """The verdict, the stacked bar, its legend, and how accurate that is; in brief less of it.

    `refusal` is why the run would be refused whatever its memory. While the length of the records
    is being measured, the estimate is the most that the run can need.
    """
    least = SMALL_SHARE * estimate.total if brief else 0.0
    lines = [
        most(estimate)
        if is_measuring and not refusal
        else verdict(estimate, width, assumptions.free, refusal),
        stacked_bar(estimate, width),
        legend(estimate, width, least),
        Content.styled(
            confidence(estimate, assumptions), MUTED if estimate.known_family else "$warning"
        ),
    ]
    if not brief:
        alone = f"MLX peak {figures.gigabytes(estimate.peak)} GB (shown on Train)"
        lines += [Content.styled(each, MUTED) for each in (alone, *assumptions.lines)]
    return Content("\n").join(lines)


def most(estimate: MemoryEstimate) -> Content:
    """The total as a limit, without a verdict."""
    total = (f"{figures.gigabytes(estimate.total)} GB", "bold")
    return Content.assemble("at most ", total, (f"  {MEASURING}", MUTED))


def verdict(
    estimate: MemoryEstimate, width: int, free: int | None = None, refusal: str = ""
) -> Content:
    """The total against the limit; `free` is the memory that other programs don't use.

    A `refusal` replaces any verdict but that of too much memory.
    """
    total = (f"{figures.gigabytes(estimate.total)} GB", "bold")
    if refusal and estimate.verdict != "wont_fit":
        refused = "refused: " if width >= 40 else ""
        return Content.assemble(total, "  ", (f"✗ {refused}{refusal}", "bold $error"))
    if estimate.limit is None:
        return Content.assemble(total, ("  limit unknown", MUTED))
    of = f" of {figures.gigabytes(estimate.limit)}  "
    match estimate.verdict:
        case "wont_fit":
            over = f"{figures.gigabytes(estimate.total - estimate.limit)} " if width >= 40 else ""
            return Content.assemble(total, of, (f"✗ {over}too much", "bold $error"))
        case _ if free is not None and estimate.total > free:
            return Content.assemble(total, of, ("! close other programs", "bold $warning"))
        case "tight":
            return Content.assemble(total, of, ("! tight", "bold $warning"))
        case "may_fit":
            return Content.assemble(total, of, ("? may fit", "bold $warning"))
        case _:
            return Content.assemble(total, of, ("✓ fits", "$success"))


def stacked_bar(estimate: MemoryEstimate, width: int) -> Content:
    """The parts side by side; the limit is the bar's end, or a mark in it if it is exceeded."""
    scale = max(estimate.total, estimate.limit or 0)
    cells: list[tuple[str, str]] = []
    reached = 0
    for name, size in estimate.parts.items():
        reached += size
        cells += [FILLS[name]] * (round(reached / scale * width) - len(cells))
    cells += [("·", FAINT)] * (width - len(cells))
    if estimate.verdict == "wont_fit" and estimate.limit is not None and width:
        cells[min(width - 1, int(estimate.limit / scale * width))] = ("┃", "bold $foreground")
    return Content.assemble(*cells)


def legend(estimate: MemoryEstimate, width: int, least: float = 0.0) -> Content:
    """Each part of at least `least` bytes with its fill and size, in one or two columns."""
    parts = [
        Content.assemble(
            FILLS[name],
            f" {NAMES.get(name, name).ljust(13)}{figures.gigabytes(size):>6}",
            (" GB", FAINT),
        )
        for name, size in estimate.parts.items()
        if size >= least
    ]
    if width < TWO_COLUMNS:
        return Content("\n").join(parts)
    half = -(-len(parts) // 2)
    right = [*parts[half:], *[Content("")] * (2 * half - len(parts))]
    lines = [Content("   ").join(pair) for pair in zip(parts[:half], right, strict=True)]
    return Content("\n").join(lines)

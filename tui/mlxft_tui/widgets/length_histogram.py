"""How long the records are, as columns of blocks."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from mlxft_tui import figures
from mlxft_tui.records import SplitView
from mlxft_tui.theme import MUTED

_EIGHTHS = " ▁▂▃▄▅▆▇█"
MOST_COLUMNS = 60
"""More columns would make bins of a few records each look like a pattern."""


class LengthHistogram(Widget):
    """Lengths in characters, and what else is to be known of a file at a glance."""

    DEFAULT_CSS = """
    LengthHistogram {
        height: 1fr;
    }
    """
    ALLOW_SELECT = False

    split: reactive[SplitView | None] = reactive(None)

    def render(self) -> Content:
        split = self.split
        if split is None or split.problem:
            return Content("")
        if split.statistics is None:
            share = split.read * 100 // max(1, split.lines)
            return Content.styled(f"checking the records {share}%", MUTED)
        facts = facts_of(split)
        width, height = self.size
        columns = column_rows(split, min(width, MOST_COLUMNS), height - len(facts))
        return Content("\n").join([*facts, *columns])


def facts_of(split: SplitView) -> list[Content]:
    """The lengths in figures."""
    from mlxft.data.statistics import summarize

    assert split.statistics is not None
    lengths = summarize(split.statistics.characters)
    if lengths is None:
        return [Content.styled("no record that can be trained", "$error")]
    median = figures.count(lengths.median)
    kinds = ", ".join(split.statistics.formats)
    return [
        Content.assemble((f"median {median}", "bold"), (f"  {kinds}", MUTED)),
    ]


def column_rows(split: SplitView, width: int, height: int) -> list[Content]:
    """The histogram from the top row down, and the shortest and longest below it."""
    from mlxft.data.statistics import histogram, summarize

    height -= 1
    if height < 1 or width < 8 or split.statistics is None:
        return []
    lengths = summarize(split.statistics.characters)
    if lengths is None:
        return []
    bins = histogram(split.statistics.characters, width)
    highest = max(each.count for each in bins)
    cells = max(1, width // len(bins))
    # A bin with a single record must not vanish beside a high one.
    eighths = [
        max(1, round(each.count / highest * height * 8)) if each.count else 0 for each in bins
    ]
    rows = []
    for row in range(height - 1, -1, -1):
        blocks = (_EIGHTHS[max(0, min(8, each - row * 8))] * cells for each in eighths)
        rows.append(Content.styled("".join(blocks), "$primary 70%"))
    shortest, longest = figures.count(lengths.shortest), figures.count(lengths.longest)
    axis = shortest + longest.rjust(cells * len(bins) - len(shortest))
    return [*rows, Content.styled(axis, MUTED)]

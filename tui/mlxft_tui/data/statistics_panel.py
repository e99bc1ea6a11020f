"""Statistics of a file: records, tokens, truncation, padding, and a histogram of lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from mlxft.data.compared import format_name
from mlxft.data.folder_view import SplitView
from mlxft.recipe import PAIRED, Recipe, TrainingLoss
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.data.length_histogram import column_rows
from mlxft_tui.text.theme import MUTED

if TYPE_CHECKING:
    from mlxft.data.token_figures import TokenFigures

MOST_COLUMNS = 60
"""Most columns of the histogram; with more, noise would look like a pattern."""

LEAST_ROWS = 4
"""Rows reserved for the histogram before a second line of figures is shown."""


class StatisticsPanel(Widget):
    """As many figures as fit, the most important first, above the histogram."""

    DEFAULT_CSS = """
    StatisticsPanel {
        height: 1fr;
    }
    """
    ALLOW_SELECT = False

    split: reactive[SplitView | None] = reactive(None)
    tokens: reactive[TokenFigures | None] = reactive(None)
    recipe: reactive[Recipe] = reactive(Recipe)
    unmeasured: reactive[str] = reactive("")
    """Why there are no lengths in tokens."""

    def render(self) -> Content:
        split = self.split
        if split is None or split.problem:
            return Content("")
        if split.statistics is None and self.tokens is None:
            share = split.read * 100 // max(1, split.lines)
            return Content.styled(f"checking the records {share}%", MUTED)
        width, height = self.size
        facts = list(facts_of(split, self.tokens, self.recipe))
        if self.unmeasured and self.tokens is None:
            facts.insert(0, Content.styled(printable_line(self.unmeasured), "$error"))
        facts = [each.truncate(width, ellipsis=True) for each in facts]
        facts = facts[: max(1, height - LEAST_ROWS)]
        columns = min(width, MOST_COLUMNS)
        return Content("\n").join([*facts, *self._columns(split, columns, height - len(facts))])

    def _columns(self, split: SplitView, width: int, height: int) -> list[Content]:
        if self.tokens is not None:
            return column_rows(self.tokens.bins, width, height, self.recipe.max_seq_length)
        bins = split.statistics.bins if split.statistics else ()
        return column_rows(bins, width, height)


def unit_of(tokens: TokenFigures | None, loss: TrainingLoss) -> str:
    """The unit of the lengths, and whether they come from a sample."""
    if tokens is None:
        return "lengths in characters"
    # Both rows of a pair are padded to the longer one.
    unit = "tokens, longer of each pair" if loss in PAIRED else "lengths in tokens"
    if tokens.whole:
        return unit
    return f"{unit}, from {figures.count(tokens.measured)} records"


def facts_of(split: SplitView, tokens: TokenFigures | None, recipe: Recipe) -> Iterator[Content]:
    """The figures, one per line, the most important first."""
    if tokens is not None:
        yield from _token_facts(tokens, recipe)
    if split.statistics is None:
        return
    found = split.statistics
    if tokens is None:
        yield _median_fact(split, recipe.loss)
    faulty = f", {figures.count(found.faulty_lines)} faulty" if found.faulty_lines else ""
    repeated = found.duplicate_count
    repeats = f", {figures.count(repeated)} repeated" if repeated else ""
    yield _fact("records", figures.count(found.records), faulty + repeats)
    if len(found.formats) > 1 or tokens is not None:
        yield _fact("formats", _formats(found.formats, recipe.loss), "")


def _formats(formats: Iterable[str], loss: TrainingLoss) -> str:
    return " · ".join(dict.fromkeys(format_name(each, loss) for each in formats))


def _median_fact(split: SplitView, loss: TrainingLoss) -> Content:
    assert split.statistics is not None
    lengths = split.statistics.lengths
    if lengths is None:
        return Content.styled("no trainable records", "$error")
    kinds = _formats(split.statistics.formats, loss)
    return Content.assemble(
        (f"median {figures.count(lengths.median)}", "bold"), (f"  {kinds}", MUTED)
    )


def _token_facts(tokens: TokenFigures, recipe: Recipe) -> Iterator[Content]:
    about = "" if tokens.whole else "≈"
    spread = f" ± {figures.count(tokens.tokens_spread)}" if tokens.tokens_spread else ""
    longest = f", longest {figures.count(tokens.longest)}"
    yield _fact("tokens", about + figures.count(tokens.tokens), spread + longest)
    share = tokens.trained_tokens / tokens.tokens if tokens.tokens else 0.0
    trained = f", {share:.0%}"
    if tokens.is_weighted:
        trained += f", weight {figures.count(round(tokens.trained_weight))}"
    yield _fact("trained", about + figures.count(tokens.trained_tokens), trained)
    if tokens.trained_as > tokens.records:
        trained_as = f" trained as {about}{figures.count(tokens.trained_as)}"
        yield _fact("", f"{figures.count(tokens.records)} records", trained_as)
    yield _cut_fact(tokens, recipe)
    yield _fact(
        f"batch {recipe.batch_size}",
        f"{about}{figures.count(tokens.steps_per_epoch)} steps per epoch",
        f", {tokens.padding_share:.0%} padding",
    )


_CUT: Final = {"truncate": "tokens cut", "split": "tokens in pieces", "drop": "tokens dropped"}


def _cut_fact(tokens: TokenFigures, recipe: Recipe) -> Content:
    if not tokens.overlong:
        return _fact("too long", "none", f" at max_seq_length {recipe.max_seq_length}")
    share = tokens.lost_tokens / tokens.tokens
    lost = f": {figures.count(tokens.lost_tokens)} {_CUT[recipe.overlong]}, {share:.1%}"
    nothing = f", {figures.count(tokens.untrainable)} untrained" if tokens.untrainable else ""
    fact = _fact("too long", figures.count(tokens.overlong), lost)
    return Content.assemble(fact, (nothing, "$warning"))


def _fact(label: str, value: str, detail: str) -> Content:
    return Content.assemble((label.ljust(9), MUTED), (value, "bold"), (detail, MUTED))

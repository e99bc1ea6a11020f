"""What is wrong or doubtful in a file, line by line; choosing a remark goes to its line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import var

from mlxft.data.printable import printable_line
from mlxft_tui import figures
from mlxft_tui.records import SplitView
from mlxft_tui.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

if TYPE_CHECKING:
    from mlxft.data.token_figures import TokenFigures
    from mlxft.data.validation import Fault


class Remark(NamedTuple):
    """A problem, or a doubt where `sure` is False; no line is the file as a whole."""

    line: int | None
    text: str
    sure: bool


class ProblemList(LineList):
    """Faults first, then what is doubtful in records that can be trained."""

    HELP = """What keeps records from being trained, what the model's template and the longest
    length make of them, what repeats, and what looks like a secret. Enter goes to the record."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Go there", tooltip="Go to the record with this problem"),
    ]

    split: var[SplitView | None] = var(None)
    also: var[tuple[Fault, ...]] = var(())
    """What the recipe and its model make doubtful."""

    def watch_split(self, old: SplitView | None, new: SplitView | None) -> None:
        self._recount()
        if old and new and (old.name, old.statistics) != (new.name, new.statistics):
            self.cursor = 0
            self.refresh()

    def watch_also(self) -> None:
        self._recount()
        self.refresh()

    def _recount(self) -> None:
        split = self.split
        self.count = len(split.faults) + len(self.also) + len(split.doubts) if split else 0

    def remark(self, index: int) -> Remark:
        """One of them, made when it is looked at."""
        split = self.split
        assert split is not None
        faults = len(split.faults)
        found = next(
            group[index - start]
            for start, group in self._groups(split)
            if index - start < len(group)
        )
        text = printable_line(f"{found.problem}; {found.remedy}")
        return Remark(found.line, text, index < faults)

    def _groups(self, split: SplitView) -> Iterator[tuple[int, tuple[Fault, ...]]]:
        """Faults, then what the recipe makes doubtful, then the rest, each with its first index."""
        yield 0, split.faults
        yield len(split.faults), self.also
        yield len(split.faults) + len(self.also), split.doubts

    def line(self, index: int, width: int) -> Content:
        remark = self.remark(index)
        place = "file" if remark.line is None else f"line {remark.line}"
        mark = ("✗ ", "$error") if remark.sure else ("! ", "$warning")
        return Content.assemble(mark, (f"{place:<10}", MUTED), " ", remark.text)


def problems_title(split: SplitView | None, tokens: TokenFigures | None = None) -> str:
    """How many there are of each kind."""
    if split is None or split.problem:
        return "problems"
    found = split.statistics
    named = [
        _counted(split.fault_count, "problem", "problems"),
        _counted(tokens.refused if tokens else 0, "refused", "refused"),
        _counted(tokens.overlong if tokens else 0, "too long", "too long"),
        _counted(found.duplicate_count if found else 0, "duplicate", "duplicates"),
        _counted(found.near_count if found else 0, "near duplicate", "near duplicates"),
        _counted(split.shared, "in train too", "in train too"),
        _counted(found.secret_count if found else 0, "secret", "secrets"),
    ]
    named = [each for each in named if each]
    if split.fault_count > len(split.faults):
        named.append(f"the first {len(split.faults)} shown")
    return ", ".join(named) or ("no problems" if found else "problems")


def _counted(number: int, one: str, many: str) -> str:
    return f"{figures.count(number)} {one if number == 1 else many}" if number else ""

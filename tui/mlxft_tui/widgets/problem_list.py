"""What is wrong or doubtful in a file, line by line; choosing a remark goes to its line."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import var

from mlxft.data.printable import printable_line
from mlxft_tui import figures
from mlxft_tui.records import SplitView
from mlxft_tui.theme import MUTED
from mlxft_tui.widgets.line_list import LineList


class Remark(NamedTuple):
    """A problem, or a doubt where `sure` is False; no line is the file as a whole."""

    line: int | None
    text: str
    sure: bool


class ProblemList(LineList):
    """Faults first, then repeated records, then records that are in train too."""

    HELP = "What keeps records from being trained, and what repeats. Enter goes to the record."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Go there", tooltip="Go to the record with this problem"),
    ]

    split: var[SplitView | None] = var(None)

    def watch_split(self, old: SplitView | None, new: SplitView | None) -> None:
        self.count = sum(_counts(new)) if new else 0
        if old and new and (old.name, old.statistics) != (new.name, new.statistics):
            self.cursor = 0
            self.refresh()

    def remark(self, index: int) -> Remark:
        """One of them, made when it is looked at."""
        split = self.split
        assert split is not None
        faults, repeats, _ = _counts(split)
        if index < faults:
            fault = split.faults[index]
            return Remark(fault.line, printable_line(f"{fault.problem}; {fault.remedy}"), True)
        index -= faults
        if split.statistics and index < repeats:
            found = split.statistics.duplicates[index]
            return Remark(found.line, f"repeats line {found.first_line}", False)
        return Remark(split.shared[index - repeats], "is in train too", False)

    def line(self, index: int, width: int) -> Content:
        remark = self.remark(index)
        place = "file" if remark.line is None else f"line {remark.line}"
        mark = ("✗ ", "$error") if remark.sure else ("! ", "$warning")
        return Content.assemble(mark, (f"{place:<10}", MUTED), " ", remark.text)


def problems_title(split: SplitView | None) -> str:
    """How many there are of each kind."""
    if split is None or split.problem:
        return "problems"
    faults, _, shared = _counts(split)
    named = [
        _counted(split.fault_count, "problem", "problems"),
        _counted(_repeated(split), "duplicate", "duplicates"),
        _counted(shared, "in train too", "in train too"),
    ]
    named = [each for each in named if each]
    if split.fault_count > faults:
        named.append(f"the first {faults} shown")
    return ", ".join(named) or ("no problems" if split.statistics else "problems")


def _counted(number: int, one: str, many: str) -> str:
    return f"{figures.count(number)} {one if number == 1 else many}" if number else ""


def _repeated(split: SplitView) -> int:
    return split.statistics.duplicate_count if split.statistics else 0


def _counts(split: SplitView) -> tuple[int, int, int]:
    repeats = len(split.statistics.duplicates) if split.statistics else 0
    return len(split.faults), repeats, len(split.shared)

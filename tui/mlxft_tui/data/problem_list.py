"""What is wrong or doubtful in a file, line by line; choosing a remark goes to its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import var

from mlxft.data.folder_view import SplitView
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

if TYPE_CHECKING:
    from mlxft.data.token_figures import TokenFigures
    from mlxft.data.validation import Fault


class Remark(NamedTuple):
    """A problem with all its lines, or a doubt where `sure` is False; no line is the whole file."""

    lines: tuple[int | None, ...]
    text: str
    sure: bool


class ProblemList(LineList, keys="problems"):
    """Faults first, then what is doubtful in records that can be trained."""

    HELP = """What keeps records from being trained, what the model's template and the longest
    length make of them, what repeats, and what looks like a secret. Enter goes to the record, and
    once more to the next one with the same problem."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Go there", tooltip="Go to the record with this problem"),
    ]

    split: var[SplitView | None] = var(None)
    also: var[tuple[Fault, ...]] = var(())
    """What the recipe and its model make doubtful."""

    def __init__(self) -> None:
        super().__init__()
        self._remarks: tuple[Remark, ...] = ()
        self._went = ("", 0)

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
        groups = ((split.faults, True), (self.also, False), (split.doubts, False)) if split else ()
        self._remarks = tuple(each for found, sure in groups for each in _gathered(found, sure))
        self.count = len(self._remarks)
        self.refresh()

    def next_line(self, index: int) -> int | None:
        """The first line of a remark; asked again and again, its other ones in turn."""
        lines, text, _ = self._remarks[index]
        last, at = self._went
        self._went = (text, (at + 1) % len(lines) if text == last else 0)
        return lines[self._went[1]]

    def line(self, index: int, width: int) -> Content:
        lines, text, sure = self._remarks[index]
        place = "file" if lines[0] is None else f"line {lines[0]}"
        more = f" +{figures.count(len(lines) - 1)}" if len(lines) > 1 else ""
        mark = ("✗ ", "$error") if sure else ("! ", "$warning")
        return Content.assemble(mark, (f"{place + more:<10}", MUTED), " ", text)


def _gathered(found: Iterable[Fault], sure: bool) -> Iterator[Remark]:
    """A remark for each problem, in the order of their first lines."""
    alike: dict[tuple[str, str], list[int | None]] = {}
    for each in found:
        alike.setdefault((each.problem, each.remedy), []).append(each.line)
    for (problem, remedy), lines in alike.items():
        yield Remark(tuple(lines), printable_line(f"{problem}; {remedy}"), sure)


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

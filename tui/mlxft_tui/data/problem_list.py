"""A file's faults and warnings; choosing one goes to its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import var

from mlxft.data.faults import FaultGroup, grouped
from mlxft.data.folder_view import SplitView
from mlxft.text import figures
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

if TYPE_CHECKING:
    from mlxft.data.faults import Fault
    from mlxft.data.token_figures import TokenFigures


class ProblemList(LineList, keys="problems"):
    """Faults first, then warnings about records that can be trained."""

    HELP = """Faults (✗) keep a record from being trained. Warnings (!) are about records that are
    trained: too long, rejected by the chat template, duplicates, secrets. Enter goes to the record,
    again to the next one with the same problem."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Go there", tooltip="Go to the record with this problem"),
    ]

    split: var[SplitView | None] = var(None)
    recipe_warnings: var[tuple[Fault, ...]] = var(())
    """Warnings that depend on the recipe and its model."""

    def __init__(self) -> None:
        super().__init__()
        self._faults: tuple[FaultGroup, ...] = ()
        self._warnings: tuple[FaultGroup, ...] = ()
        self._visited = ("", 0)
        """The text of the problem chosen last, and the index of its line."""

    def watch_split(self, old: SplitView | None, new: SplitView | None) -> None:
        self._recount()
        if old and new and (old.name, old.statistics) != (new.name, new.statistics):
            self.cursor = 0
            self.refresh()

    def watch_recipe_warnings(self) -> None:
        self._recount()
        self.refresh()

    def _recount(self) -> None:
        split = self.split
        self._faults = split.fault_groups if split else ()
        of_recipe = grouped(self.recipe_warnings) if split else ()
        self._warnings = (*of_recipe, *(split.warning_groups if split else ()))
        self.count = len(self._faults) + len(self._warnings)
        self.refresh()

    def _group(self, index: int) -> FaultGroup:
        after = index - len(self._faults)
        return self._faults[index] if after < 0 else self._warnings[after]

    def next_line(self, index: int) -> int | None:
        """The first line of a problem; on repeated calls its other lines in turn."""
        lines, text = self._group(index)
        last, at = self._visited
        self._visited = (text, (at + 1) % len(lines) if text == last else 0)
        return lines[self._visited[1]]

    def line(self, index: int, width: int) -> Content:
        lines, text = self._group(index)
        place = "file" if lines[0] is None else f"line {lines[0]}"
        more = f" +{figures.count(len(lines) - 1)}" if len(lines) > 1 else ""
        mark = ("✗ ", "$error") if index < len(self._faults) else ("! ", "$warning")
        return Content.assemble(mark, (f"{place + more:<10}", MUTED), " ", text)


def problems_title(split: SplitView | None, tokens: TokenFigures | None = None) -> str:
    """The number of problems of each kind."""
    if split is None or split.problem:
        return "problems"
    found = split.statistics
    counts = [
        _counted(split.fault_count, "problem", "problems"),
        _counted(tokens.refused if tokens else 0, "rejected", "rejected"),
        _counted(tokens.overlong if tokens else 0, "too long", "too long"),
        _counted(found.excluded if found else 0, "excluded", "excluded"),
        _counted(found.duplicate_count if found else 0, "duplicate", "duplicates"),
        _counted(found.near_count if found else 0, "near duplicate", "near duplicates"),
        _counted(found.contradiction_count if found else 0, "contradiction", "contradictions"),
        _counted(split.shared, "also in train", "also in train"),
        _counted(split.prompts_shared, "prompt also in train", "prompts also in train"),
        _counted(found.secret_count if found else 0, "secret", "secrets"),
    ]
    counts = [each for each in counts if each]
    if split.fault_count > len(split.faults):
        counts.append(f"the first {len(split.faults)} shown")
    warnings = len(split.warning_groups) + len(list(grouped(tokens.warnings if tokens else ())))
    if not counts and warnings:
        return _counted(warnings, "warning", "warnings")
    return ", ".join(counts) or ("no problems" if found else "problems")


def _counted(number: int, one: str, many: str) -> str:
    return f"{figures.count(number)} {one if number == 1 else many}" if number else ""

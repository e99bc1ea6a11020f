"""The records of one file: a line each, however many there are."""

from __future__ import annotations

from functools import lru_cache

from textual.content import Content
from textual.reactive import var

from mlxft.data.formats import detect, parts
from mlxft.data.printable import printable_line
from mlxft.data.validation import Line
from mlxft_tui.records import SplitView
from mlxft_tui.theme import FAINT
from mlxft_tui.widgets.line_list import LineList

LONGEST = 400
"""Characters of a record that a line can need."""


class RecordList(LineList):
    """Line number and beginning of each record; a faulty one is marked."""

    HELP = "The file's records. The one under the cursor is shown beside."

    split: var[SplitView | None] = var(None)

    def watch_split(self, old: SplitView | None, new: SplitView | None) -> None:
        self.count = new.lines if new else 0
        if old is None or new is None or old.index is not new.index:
            self._words = lru_cache(maxsize=512)(self._words_of)
            self.refresh()
        if old is not None and new is not None and old.name != new.name:
            self.cursor = 0

    def record(self, index: int) -> Line | None:
        """A line of the file; None if it can't be read any more."""
        if self.split is None or self.split.index is None:
            return None
        try:
            return self.split.index.line(index)
        except (IndexError, OSError):
            return None

    def raw(self, index: int) -> str:
        """A line as it stands in the file."""
        if self.split is None or self.split.index is None:
            return ""
        try:
            return self.split.index.raw(index).decode("utf-8", "replace").rstrip("\r\n")
        except (IndexError, OSError):
            return ""

    def line(self, index: int, width: int) -> Content:
        number = str(index + 1).rjust(len(str(self.count)))
        mark, words = self._words(index)
        style = "$error" if mark == "✗" else ""
        return Content.assemble((number, FAINT), (f" {mark} ", "$error"), (words, style))

    def _words_of(self, index: int) -> tuple[str, str]:
        record = self.record(index)
        if record is None:
            return "✗", "this line can't be read any more"
        if record.faults:
            return "✗", printable_line(record.faults[0].problem)
        return " ", printable_line(_beginning(record))


def _beginning(record: Line) -> str:
    """What tells a record from its neighbours: its first part that is not a system message."""
    fields = record.fields or {}
    shown = [part for part in parts(fields) if part.label not in ("system", "tools")]
    if detect(fields) is None or not shown:
        return ", ".join(fields)
    return shown[0].text[:LONGEST]

"""The records of one file, one per line, however many there are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from textual.content import Content
from textual.reactive import var

from mlxft.data.folder_view import SplitView
from mlxft.data.formats import detect, parts
from mlxft.data.json_lines import parse
from mlxft.data.places import LinePlaces
from mlxft.data.validation import RecordLine, read_line
from mlxft.text.printable import printable_line
from mlxft_tui.text.theme import FAINT
from mlxft_tui.widgets.line_list import LineList

LONGEST = 400
"""Most characters of a record that a line shows."""

LONGEST_LINE = 4 * 1024 * 1024
"""Most bytes of a line that is parsed for display; a longer one would delay the keys."""


SAMPLED = 100
"""First records whose fields are offered as columns."""


class RecordList(LineList):
    """Number and beginning of each record; a faulty one is marked."""

    HELP = """The file's records. The one under the cursor is shown beside the list, faulty ones are
    marked with ✗. While lines are still being counted, ~ marks an estimated number."""

    split: var[SplitView | None] = var(None)
    columns: var[Mapping[str, str]] = var(dict)
    """The recipe's mapping of fields."""

    def __init__(self) -> None:
        super().__init__()
        self._words = lru_cache(maxsize=512)(self._words_of)

    def watch_split(self, old: SplitView | None, new: SplitView | None) -> None:
        before, after = old and old.places, new and new.places
        if before is after:
            return
        if before and after and before.index is after.index:
            self._keep_cursor(before, after)
        else:
            self._words.cache_clear()
            self.count = after.count if after else 0
            if old is not None and new is not None and old.path != new.path:
                self.cursor = 0
        self.refresh()

    def watch_columns(self) -> None:
        self._words.cache_clear()
        self.refresh()

    def _keep_cursor(self, before: LinePlaces, after: LinePlaces) -> None:
        """Keep the cursor on its record, in the same row, when the record's number changes."""
        offset, top = self._offset(before), self.cursor - self.scroll_offset.y
        self.count = after.count
        if offset is not None and not before.is_exact(self.cursor):
            self.cursor = after.position_of(offset)
            self.scroll_to(y=self.cursor - top, animate=False, immediate=True)

    def _offset(self, places: LinePlaces) -> int | None:
        try:
            return places.span(self.cursor).start if places.count else None
        except (IndexError, OSError):
            return None

    @property
    def offset_under_cursor(self) -> int:
        """The first byte of the record under the cursor."""
        places = self.split.places if self.split else None
        return (self._offset(places) if places else None) or 0

    def go_to(self, offset: int) -> None:
        """Move the cursor to the record that contains a byte."""
        if self.split and self.split.places:
            self.cursor = self.split.places.position_of(offset)

    def record(self, position: int) -> RecordLine | None:
        """A line of the file; None if it can't be read anymore or is too long."""
        raw = self.raw(position)
        if raw is None or len(raw) > LONGEST_LINE or self.split is None:
            return None
        return read_line(raw, str(self.split.path), position + 1, self.columns)

    def raw(self, position: int) -> bytes | None:
        """A line as it is in the file, cut after `LONGEST_LINE`."""
        places = self.split.places if self.split else None
        try:
            span = places.span(position) if places else None
            wanted = min(span.end - span.start, LONGEST_LINE + 1) if span else 0
            return places.index.read(span.start, wanted) if places and span else None
        except (IndexError, OSError):
            return None

    def first_records(self) -> tuple[dict[str, Any], ...]:
        """The first records as written, without faulty lines."""
        positions = range(min(self.count, SAMPLED))
        found = (parse(self.raw(position) or b"") for position in positions)
        return tuple(record for record in found if isinstance(record, dict))

    def line(self, index: int, width: int) -> Content:
        places = self.split.places if self.split else None
        sign = "" if places is None or places.is_exact(index) else "~"
        digits = len(str(self.count)) + (places is not None and not places.exact)
        mark, words = self._words(index, places)
        style = "$error" if mark == "✗" else ""
        return Content.assemble(
            (f"{sign}{index + 1}".rjust(digits), FAINT), (f" {mark} ", "$error"), (words, style)
        )

    def _words_of(self, index: int, places: LinePlaces | None) -> tuple[str, str]:
        raw = self.raw(index)
        if raw is None or not raw:
            return "✗", "this line can't be read anymore"
        record = self.record(index)
        if record is None:
            return " ", printable_line(raw[:LONGEST].decode("utf-8", "replace"))
        if record.faults:
            return "✗", printable_line(record.faults[0].problem)
        return " ", printable_line(_beginning(record))


def _beginning(record: RecordLine) -> str:
    """What distinguishes a record: its first part other than system message and tools."""
    fields = record.fields or {}
    shown = [part for part in parts(fields) if part.label not in ("system", "tools")]
    if detect(fields) is None or not shown:
        return ", ".join(fields)
    return shown[0].text[:LONGEST]

"""A search through the record list: where to go next, and its note."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import Final, Literal

from mlxft.data.search import Query
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.data.findings import Findings
from mlxft_tui.data.record_list import RecordList

MAX_QUERY_SHOWN: Final = 16
"""Characters of the query that the note repeats."""


class RecordSearch:
    """At most one search at a time; moves the list's cursor to its hits as they become known."""

    def __init__(self, records: RecordList) -> None:
        self._records = records
        self._steps: deque[Literal[-1, 1]] = deque()
        """Requested moves between hits that are still waiting for the search."""
        self.findings: Findings | None = None

    def begin(self, path: Path, query: Query, size: int) -> Findings:
        """Start from the record under the cursor, in a file of `size` bytes."""
        self._steps.clear()
        self.findings = Findings(path, query, self._records.offset_under_cursor, size)
        self.step(1)
        return self.findings

    def end(self) -> None:
        """Forget the search."""
        self._steps.clear()
        self.findings = None

    def step(self, direction: Literal[-1, 1]) -> None:
        """Go to the next or previous hit, now or once it is known."""
        self._steps.append(direction)
        self.advance()

    def advance(self) -> None:
        """Take the requested steps as far as the hits are known."""
        findings = self.findings
        while findings is not None and self._steps:
            hit = findings.neighbour(self._records.offset_under_cursor, self._steps[0])
            if hit is None:
                break
            self._steps.popleft()
            self._records.go_to(hit)
        if findings is not None and findings.complete:
            self._steps.clear()

    @property
    def highlight(self) -> re.Pattern[str] | None:
        """What to highlight; None for a regular expression, which might take forever."""
        found = self.findings
        return found.query.pattern() if found and not found.query.is_expression else None

    @property
    def note(self) -> str:
        """The number of hits, and which one the cursor is on; empty without a search."""
        findings = self.findings
        if findings is None:
            return ""
        query = printable_line(findings.query.text)
        if len(query) > MAX_QUERY_SHOWN:
            query = f"{query[: MAX_QUERY_SHOWN - 1]}…"
        count = figures.count(len(findings))
        if not findings.complete:
            return f"/{query} {count} found, {findings.share:.0%} searched"
        rank = findings.rank(self._records.offset_under_cursor)
        return f"/{query} {figures.count(rank)} of {count}" if rank else f"/{query} {count} found"

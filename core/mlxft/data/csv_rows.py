"""Rows of CSV and TSV files as records."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from mlxft.data.container_errors import ContainerError
from mlxft.data.table_rows import fault_row

_LONGEST_CELL: Final = 2**31 - 1


def csv_rows(path: Path, file: IO[bytes], separator: str | None = None) -> Iterator[Any]:
    """The rows below the header; a separator that isn't in the header is guessed from it."""
    csv.field_size_limit(_LONGEST_CELL)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    lines = _CountedLines(text)
    header, separator = _header(path, lines, separator)
    rows = csv.reader(lines, delimiter=separator)
    while True:
        before = lines.count
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield fault_row(f"the row can't be read ({error})", "correct its quotes")
            continue
        if lines.ended:
            # The reader reaches the end silently only inside quotes.
            taken = f"the {lines.count - before} lines from here on are one cell"
            yield fault_row(f"the row's quotes never close, so {taken}", "close them")
        elif cells:
            yield _row(header, cells)


_LONGEST_HEADER: Final = 1000
"""Lines that a header may span, so that an unclosed quote doesn't swallow the file."""

_DECLARED: Final = re.compile(r"\"?sep=(.)\"?\s*", re.IGNORECASE)
_QUOTED: Final = re.compile('"[^"]*"')


def _header(path: Path, lines: _CountedLines, separator: str | None) -> tuple[list[str], str]:
    """The column names and the separator; a quoted name may span lines."""
    taken = _CountedLines(itertools.islice(lines, _LONGEST_HEADER))
    first = next(iter(taken), "")
    if declared := _DECLARED.fullmatch(first):  # Excel's own first line.
        separator, taken.count = declared[1], 0
        first = next(iter(taken), "")
    if "\0" in first:
        raise ContainerError(path, "the file is UTF-16 or not text", "save it as UTF-8")
    whole, kept = itertools.tee(itertools.chain([first], taken))
    next(csv.reader(whole, delimiter=_separator_in(first, separator)), None)
    if first and taken.ended:
        raise ContainerError(path, "the quotes of a column name never close", "close them")
    header_lines = list(itertools.islice(kept, taken.count))
    separator = _separator_in("".join(header_lines), separator)
    header = [name.strip() for name in next(csv.reader(header_lines, delimiter=separator), [])]
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise ContainerError(path, f"two columns are named {twice}", "rename one of them")
    return header, separator


def _separator_in(header: str, wanted: str | None) -> str:
    """The wanted one if the header has it, else the most common one outside quotes."""
    if wanted and wanted in header:
        return wanted
    return max(",;\t|", key=_QUOTED.sub("", header).count)


class _CountedLines:
    """Counts the lines of a file as they are read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.count = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.count += 1
            yield line
        self.ended = True


def _row(header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        return fault_row(
            f"the row has {len(cells)} cell{'s' * (len(cells) > 1)} under {len(header)} columns",
            "put cells that contain the separator in double quotes",
        )
    return dict(zip(header, cells, strict=True))

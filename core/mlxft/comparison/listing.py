"""Rows of the table for programs, as mappings and CSV, and as lines of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import msgspec

from mlxft.comparison.columns import Column
from mlxft.comparison.table import RunRow
from mlxft.recipe import PARAMETERS


def mapping(row: RunRow) -> dict[str, Any]:
    """All that is known of a run, for JSON: memory in bytes, times in seconds since 1970."""
    said = msgspec.structs.asdict(row.summary)
    labels = msgspec.structs.asdict(row.labels)
    del said["ending"], said["has_trained"], said["paused"], labels["name"]
    said["recipe"] = {key: row.value(key) for key in PARAMETERS}
    return {
        "run": row.run,
        "path": str(row.directory.path),
        "name": row.title,
        "state": row.state,
        "model": row.value("model") or None,
        **said,
        **labels,
        "evaluations": row.evaluations,
    }


def mapping_of(row: RunRow, columns: Sequence[Column]) -> dict[str, Any]:
    """The values of some columns by their ids."""
    return {each.id: each.value(row) for each in columns}


def comma_separated(rows: Sequence[RunRow], columns: Sequence[Column]) -> str:
    """The values of some columns as CSV, unformatted; empty for what isn't known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([each.id for each in columns])
    for row in rows:
        writer.writerow([_plain(each.value(row)) for each in columns])
    return text.getvalue()


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def lines(rows: Sequence[RunRow], columns: Sequence[Column], now: float) -> list[str]:
    """The titles and then a line for each row, in columns."""
    table = [[each.title for each in columns]]
    table += [[each.text(row, now) for each in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    return ["  ".join(_aligned(cells, columns, widths)).rstrip() for cells in table]


def _aligned(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> list[str]:
    padded = zip(cells, columns, widths, strict=True)
    return [cell.rjust(to) if each.is_figure else cell.ljust(to) for cell, each, to in padded]

"""How the table of runs looks: its columns, order and filter, kept for the next start; pure."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from mlxft.comparison.columns import COLUMNS, DEFAULT_COLUMNS, Column, Order, sorted_rows
from mlxft.comparison.filters import parse_filter
from mlxft.comparison.table import RunRow
from mlxft.errors import RunError, StorageError
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import state_dir

NAME: Final = "name"
"""The column that is always shown, at the left."""


class TableLook(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of the runs, and in which order."""

    columns: tuple[str, ...] = tuple(each for each in DEFAULT_COLUMNS if each != NAME)
    """Ids of the columns after the name."""
    order: str = ""
    """The id of the column that rows are sorted by; empty for the newest first."""
    descending: bool = False
    filter: str = ""
    archived: bool = False
    """Whether archived runs are shown too."""

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns after the name; those of another version are left out."""
        return tuple(COLUMNS[each] for each in self.columns if each in COLUMNS)

    def arranged(self, rows: Sequence[RunRow], now: float) -> tuple[RunRow, ...]:
        """The rows that are shown: pinned ones first. Raises `RunError` for a wrong filter."""
        keeps = parse_filter(self.filter, now)
        found = [row for row in rows if (self.archived or not row.labels.archived) and keeps(row)]
        if self.order in COLUMNS:
            found = sorted_rows(found, [Order(COLUMNS[self.order], self.descending)])
        return tuple(sorted(found, key=lambda row: not row.labels.pinned))

    def sorted_by_next(self) -> TableLook:
        """The look with the rows sorted by the next of its columns."""
        ids = ["", NAME, *self.columns]
        at = ids.index(self.order) + 1 if self.order in ids else 0
        return msgspec.structs.replace(self, order=ids[at % len(ids)])


_decoder = msgspec.json.Decoder(TableLook)


def look_file(adapters: Path) -> Path:
    """Where a project's look is kept. Raises `StorageError`."""
    key = hashlib.sha256(os.fsencode(adapters.resolve())).hexdigest()[:16]
    return state_dir() / f"runs-{key}.json"


def read_look(adapters: Path) -> TableLook:
    """The look that was kept; the default where there is none."""
    with contextlib.suppress(OSError, ValueError, StorageError):
        look = _decoder.decode(look_file(adapters).read_bytes())
        with contextlib.suppress(RunError):
            parse_filter(look.filter)
            return look
        return msgspec.structs.replace(look, filter="")
    return TableLook()


def keep_look(adapters: Path, look: TableLook) -> None:
    """Keep the look; where that fails the next start has an earlier one."""
    with contextlib.suppress(OSError, StorageError):
        write_atomically(look_file(adapters), msgspec.json.encode(look) + b"\n", durable=False)

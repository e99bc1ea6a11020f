"""Summaries of journals that have ended, kept in one file so that a project opens at once."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

import mlxft
from mlxft.comparison.summary import Summary
from mlxft.errors import StorageError
from mlxft.recipe import PARAMETERS
from mlxft.runs import lock
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular

Stamp: TypeAlias = "tuple[int, int, int] | None"
"""A file's size, time of writing in nanoseconds, and inode; None where there is none."""

Stamps: TypeAlias = "tuple[tuple[int, int, int] | None, tuple[int, int, int] | None]"

_SCHEMA: Final = 1

_DEFAULTS: Final = repr([(key, each.default) for key, each in PARAMETERS.items()])
"""Summaries hold what differs from the defaults, so other defaults make them useless."""

_VERSION: Final = f"{_SCHEMA} {mlxft.__version__} {_DEFAULTS}"


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A run's summary, and the journal and recipe it was read from."""

    stamps: Stamps
    summary: Summary


class _File(msgspec.Struct, frozen=True):
    version: str
    runs: dict[str, _Kept]


_decoder = msgspec.msgpack.Decoder(_File)


class SummaryCache:
    """A file with summaries by run; one that is missing, torn or of another version is empty.

    A summary counts only for a journal and a recipe of the same size, time and inode.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._runs: dict[str, _Kept] | None = None
        self._changed = False

    def get(self, run: str, stamps: Stamps) -> Summary | None:
        """The summary that was read from these files, if it is kept."""
        kept = self._loaded().get(run)
        return kept.summary if kept is not None and kept.stamps == stamps else None

    def put(self, run: str, stamps: Stamps, summary: Summary) -> None:
        """Keep a summary at the next save."""
        self._loaded()[run] = _Kept(stamps, summary)
        self._changed = True

    def save(self, runs: Collection[str]) -> None:
        """Write what has changed of these runs; a cache that can't be written is only slower."""
        if not self._changed or self._runs is None:
            return
        self._runs = {run: kept for run, kept in self._runs.items() if run in runs}
        self._changed = False
        with contextlib.suppress(OSError, StorageError, UnicodeEncodeError, OverflowError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            data = msgspec.msgpack.encode(_File(_VERSION, self._runs))
            with lock.taken(self._file.with_suffix(".lock"), patience=0) as held:
                if held is not None:
                    write_atomically(self._file, data, durable=False)

    def _loaded(self) -> dict[str, _Kept]:
        if self._runs is None:
            self._runs = {}
            with contextlib.suppress(OSError, ValueError):
                found = _decoder.decode(read_regular(self._file))
                if found.version == _VERSION:
                    self._runs = found.runs
        return self._runs

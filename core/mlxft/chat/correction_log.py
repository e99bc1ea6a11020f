"""Which corrections became which training records, so that they can be replaced and undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mlxft.chat import history
from mlxft.errors import StorageError
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular

LOG_NAME: Final = "chat_corrections.jsonl"


class SavedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A corrected answer's record, as a line of the log."""

    answer: str
    """Identifies the corrected answer: its conversation, turn and answerer."""
    file: str
    line: str
    """The record as it is in the file."""
    before: str | None = None
    """The record of an earlier correction that it has replaced."""


def remember(log: Path, saved: SavedRecord) -> None:
    """Append to a project's log, which only the user may read. Raises `StorageError`."""
    history.append_line(log, msgspec.json.encode(saved), mode=0o600)


def latest(log: Path, answer: str | None = None) -> SavedRecord | None:
    """The latest record that isn't undone, of any answer or of this one."""
    found = [each for each in _entries(log) if answer in (None, each.answer)]
    return found[-1] if found else None


def forget_latest(log: Path) -> None:
    """Remove the latest entry. Raises `StorageError`."""
    kept = list(_entries(log))[:-1]
    text = b"".join(msgspec.json.encode(each) + b"\n" for each in kept)
    try:
        write_atomically(log, text)
    except OSError as error:
        raise StorageError(f"{log}: can't be written ({error.strerror}).") from None


def _entries(log: Path) -> Iterator[SavedRecord]:
    with contextlib.suppress(OSError):
        for line in read_regular(log).splitlines():
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield msgspec.json.decode(line, type=SavedRecord)

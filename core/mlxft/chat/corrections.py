"""Adds corrected answers to a training set."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxft.chat import history
from mlxft.chat.correction_log import SavedRecord
from mlxft.conversation.messages import Message
from mlxft.data import formats
from mlxft.data.columns import SPEAKERS, Columns
from mlxft.data.containers import as_lines, is_plain
from mlxft.data.split_files import split_file
from mlxft.data.validation import scan
from mlxft.errors import StorageError
from mlxft.storage.line_edits import replace_line
from mlxft.storage.paths import cache_dir, sample_data

COPY_MARK = ".copied_from"
"""The file in a project's copy of a dataset that names the original."""


def writable_data(data: Path, project: Path) -> Path:
    """Data that records can be added to: for sample and hub data, the project's own copy.

    An existing copy is used again; a folder with anything else in it is left alone. Raises
    `StorageError`.
    """
    original, sample = data.resolve(), sample_data().resolve()
    if not original.is_relative_to(sample) and not original.is_relative_to(cache_dir().resolve()):
        return data
    original = original.parent if original.is_file() else original
    numbered = (project / f"data-{number}" for number in itertools.count(2))
    folders = itertools.chain([project / "data"], numbered)
    own = project
    try:
        own = next(each for each in folders if _is_free(each) or _is_copy(each, original))
        if _is_free(own):
            _copy(original, own)
    except OSError as error:
        raise StorageError(f"{own}: can't be written ({error.strerror}).") from None
    return own


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _is_copy(folder: Path, data: Path) -> bool:
    mark = folder / COPY_MARK
    return mark.is_file() and mark.read_text() == str(data)


def _copy(data: Path, own: Path) -> None:
    """Copy a dataset into a project, completely or not at all."""
    unfinished = own.with_name(f".{own.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    for each in sorted(data.glob("*.jsonl")):
        # Without the file modes: the original may be read-only, the copy must not be.
        shutil.copyfile(each, unfinished / each.name)
    (unfinished / COPY_MARK).write_text(str(data))
    os.replace(unfinished, own)


@dataclass(frozen=True)
class AddedRecord:
    """Where a conversation was added to a training set."""

    file: Path
    replaces: Path | None
    """The file of another type that was converted to this one, which takes precedence now."""
    differs_from: formats.FormatName | None
    """The format of the set's first record if it differs, which mlx_lm can't train."""
    line: str
    """The record as it is in the file."""
    before: str | None
    """The record that it stands in place of."""


def add_record(
    data: Path,
    columns: Columns,
    messages: Sequence[Message],
    instead_of: SavedRecord | None = None,
    remember: Callable[[AddedRecord], None] = lambda _: None,
) -> AddedRecord:
    """Add a conversation to a training set, in the first record's format if that can hold it.

    It takes the place of `instead_of`, if that is still there. `remember` is called before the
    record is written, so that a crash never leaves one that nobody knows of. A training set that
    isn't JSON lines is first converted to ``train.jsonl`` beside it, which then takes precedence.
    Raises `StorageError`, and `DataError` if the set can't be read.
    """
    found = split_file(data, "train")
    file = found if is_plain(found) else _as_plain(found, data)
    first = _first_format(file, columns)
    line = history.as_line(record_like(first, columns, messages))
    before = _standing(file, instead_of)
    differs_from = None if first == _format_for(first, messages) else first
    added = AddedRecord(file, found if file != found else None, differs_from, line.decode(), before)
    remember(added)
    if before is None or not _replaced(file, before.encode(), line):
        history.append_line(file, line)
    return added


def _standing(file: Path, saved: SavedRecord | None) -> str | None:
    """The record of an earlier correction that is in the file: its own or, where a crash came
    first, the one that it was to replace."""
    if saved is None or Path(saved.file) != file.resolve() or not file.is_file():
        return None
    try:
        lines = set(file.read_bytes().splitlines())
    except OSError as error:
        raise StorageError(f"{file}: can't be read ({error.strerror}).") from None
    wanted = (saved.line, saved.before)
    return next((each for each in wanted if each is not None and each.encode() in lines), None)


def undo_record(saved: SavedRecord) -> bool:
    """Take a record out of its training set, or put the one before it back; False if it is gone.

    Raises `StorageError`.
    """
    before = saved.before.encode() if saved.before is not None else None
    return _replaced(Path(saved.file), saved.line.encode(), before)


def _replaced(file: Path, line: bytes, instead: bytes | None) -> bool:
    try:
        return file.is_file() and replace_line(file, line, instead)
    except OSError as error:
        raise StorageError(f"{file}: can't be written ({error.strerror}).") from None


def record_like(
    first: formats.FormatName | None, columns: Columns, messages: Sequence[Message]
) -> dict[str, Any]:
    """A conversation in the format of a set's first record, or as messages if that can't hold it.

    mlx_lm reads all records of a file in the first one's format.
    """
    if _format_for(first, messages) == "prompt/completion":
        names = (columns.get("prompt", "prompt"), columns.get("completion", "completion"))
        return dict(zip(names, (each.content for each in messages), strict=True))
    record = history.record(messages)
    return {
        columns.get("messages", "messages"): [
            {columns.get(key, key): _written(key, value, columns) for key, value in message.items()}
            for message in record["messages"]
        ]
    }


def _format_for(
    first: formats.FormatName | None, messages: Sequence[Message]
) -> formats.FormatName:
    """The format a conversation is written in, given that of the set's first record."""
    is_pair = [each.role for each in messages] == ["user", "assistant"]
    return "prompt/completion" if is_pair and first == "prompt/completion" else "messages"


def _written(key: str, value: str, columns: Columns) -> str:
    """A message's value; roles get the names they have in the set."""
    return columns.get(value, value) if key == "role" and value in SPEAKERS else value


def _first_format(file: Path, columns: Columns) -> formats.FormatName | None:
    """The format of a set's first valid record."""
    if not file.exists():
        return None
    first = next((line.fields for line in scan(file, columns) if not line.faults), None)
    known = formats.detect(first) if first is not None else None
    return known.name if known else None


def _as_plain(file: Path, data: Path) -> Path:
    """Convert a file to ``train.jsonl``, completely or not at all."""
    if data.is_file():
        raise StorageError(
            f"{data}: records can't be added to this type of file; move it into a folder as "
            f"train{data.suffix} and set the recipe's data to that folder."
        )
    plain = data / "train.jsonl"
    if file == plain:
        raise StorageError(
            f"{file}: records can't be added to an array; rename the file to train.json."
        )
    unfinished = plain.with_suffix(".unfinished")
    try:
        shutil.copyfile(as_lines(file), unfinished)
        os.replace(unfinished, plain)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StorageError(f"{plain}: can't be written ({error.strerror}).") from None
    return plain

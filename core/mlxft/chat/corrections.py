"""Corrected answers on their way into a training set."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxft.chat import history
from mlxft.conversation.messages import Message
from mlxft.data import formats
from mlxft.data.columns import SPEAKERS, Columns
from mlxft.data.containers import as_lines, is_plain
from mlxft.data.dataset import split_file
from mlxft.data.index import LineIndex
from mlxft.data.validation import scan
from mlxft.errors import StorageError
from mlxft.paths import cache_dir, sample_data

COPY_MARK = ".copied_from"
"""The file in a project's copy of a data set that names the set."""


def own_data(data: Path, project: Path) -> Path:
    """Where records can be added: of the sample data and of a hub's, the project's own copy.

    A copy that is there is gone on with; a folder that holds anything else is left alone. Raises
    `StorageError`.
    """
    place, sample = data.resolve(), sample_data().resolve()
    if not place.is_relative_to(sample) and not place.is_relative_to(cache_dir().resolve()):
        return data
    place = place.parent if place.is_file() else place
    numbered = (project / f"data-{number}" for number in itertools.count(2))
    folders = itertools.chain([project / "data"], numbered)
    own = project
    try:
        own = next(each for each in folders if _is_free(each) or _is_copy(each, place))
        if _is_free(own):
            _copy(place, own)
    except OSError as error:
        raise StorageError(f"{own}: it can't be written ({error.strerror}).") from None
    return own


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _is_copy(folder: Path, data: Path) -> bool:
    mark = folder / COPY_MARK
    return mark.is_file() and mark.read_text() == str(data)


def _copy(data: Path, own: Path) -> None:
    """Make a project's copy of a data set, whole or not at all."""
    unfinished = own.with_name(f".{own.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    for each in sorted(data.glob("*.jsonl")):
        # Their modes are not copied: a set that may only be read is one to write to here.
        shutil.copyfile(each, unfinished / each.name)
    (unfinished / COPY_MARK).write_text(str(data))
    os.replace(unfinished, own)


def records_in(file: Path) -> int:
    """How many records a file of JSON lines has. Raises `DataError`."""
    with LineIndex(file) as index:
        for _ in index.build():
            pass
        return len(index)


@dataclass(frozen=True)
class Learnt:
    """Where a conversation was added to a training set."""

    file: Path
    instead_of: Path | None
    """The file of another kind that this one was made of and now stands before."""
    beside: formats.FormatName | None
    """The format of the set's first record where this one differs, which mlx_lm can't train."""


def learn(data: Path, columns: Columns, messages: Sequence[Message]) -> Learnt:
    """Add a conversation to a training set, written as the first record is where that can hold it.

    A set in a file of another kind than JSON lines is copied into ``train.jsonl`` beside it, which
    comes first from then on. Raises `StorageError`, and `DataError` for a set that can't be read.
    """
    found = split_file(data, "train")
    file = found if is_plain(found) else _as_plain(found, data)
    first = _first(file, columns)
    history.append(file, record_like(first, columns, messages))
    beside = None if first == _format_for(first, messages) else first
    return Learnt(file, found if file != found else None, beside)


def record_like(
    first: formats.FormatName | None, columns: Columns, messages: Sequence[Message]
) -> dict[str, Any]:
    """A conversation as a record in the format of a set's first one; as messages where that has no
    room for it.

    mlx_lm takes a file's first record for the format of all.
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
    """The format in which a conversation is written beside a set's first record."""
    plain = [each.role for each in messages] == ["user", "assistant"]
    return "prompt/completion" if plain and first == "prompt/completion" else "messages"


def _written(key: str, value: str, columns: Columns) -> str:
    """A message's value, a role as the set calls it."""
    return columns.get(value, value) if key == "role" and value in SPEAKERS else value


def _first(file: Path, columns: Columns) -> formats.FormatName | None:
    """The format of a set's first record without faults."""
    if not file.exists():
        return None
    first = next((line.fields for line in scan(file, columns) if not line.faults), None)
    known = formats.detect(first) if first is not None else None
    return known.name if known else None


def _as_plain(file: Path, data: Path) -> Path:
    """The records of a file of another kind as lines of one that is made whole or not at all."""
    if data.is_file():
        raise StorageError(
            f"{data}: records can't be added to such a file; put it into a folder, as train"
            f"{data.suffix}, and make that the recipe's data."
        )
    plain = data / "train.jsonl"
    unfinished = plain.with_suffix(".unfinished")
    try:
        shutil.copyfile(as_lines(file), unfinished)
        os.replace(unfinished, plain)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StorageError(f"{plain}: it can't be written ({error.strerror}).") from None
    return plain

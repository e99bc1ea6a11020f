"""Read a file of records line by line, each with its faults."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mlxft.data.columns import AS_NAMED, MESSAGE_NAMES, Columns, renamed
from mlxft.data.container_errors import ContainerError
from mlxft.data.containers import as_lines, is_plain
from mlxft.data.conversion import converted
from mlxft.data.faults import Fault, Problem
from mlxft.data.json_lines import parse, whole_file_problem
from mlxft.data.record_checks import is_filled_pair, problems
from mlxft.data.record_warnings import (
    LIKED_ANSWERS,
    exclusion,
    liked,
    placeholder_warnings,
    record_warnings,
)

_BUFFER: Final = 64 * 1024
"""Bytes of a file read at a time."""


class RecordLine(msgspec.Struct, frozen=True):
    """A line of a file: its record in the format it is trained in, and its faults."""

    number: int
    fields: dict[str, Any] | None
    faults: tuple[Fault, ...]
    format: str = ""
    """The format the record is written in; empty if unknown."""
    warnings: tuple[Problem, ...] = ()
    """What a valid record loses when it is trained."""
    excluded: Problem | None = None
    """Why a valid record isn't trained."""
    rejected: dict[str, Any] | None = None
    """The record with the rejected answer of a preference, in the same format."""

    @property
    def trained(self) -> dict[str, Any] | None:
        """The record if it is trained."""
        return None if self.faults or self.excluded else self.fields


def scan(path: Path, columns: Columns = AS_NAMED) -> Iterator[RecordLine]:
    """Stream every line of a file with its faults.

    A fault of the whole file is a line 0 without a record.
    """
    file = str(path)
    return read_lines(path, lambda raw, number: read_line(raw, file, number, columns))


Line = TypeVar("Line")


def read_lines(path: Path, read: Callable[[bytes, int], Line]) -> Iterator[Line | RecordLine]:
    """What `read` makes of every line of a file, given its number.

    A fault of the whole file is a line 0 without a record.
    """
    file, number = str(path), 0
    if path.exists() and not path.is_file() and not path.is_dir():
        # Reading a pipe would block forever.
        remedy = "put the records into a regular file"
        special = Problem("unreadable file", "this is not a file", remedy)
        yield RecordLine(0, None, (special.at(file, None),))
        return
    try:
        with io.BufferedReader(as_lines(path).open("rb", buffering=0), _BUFFER) as lines:
            # Not the whole first line: an array on one line may have any size.
            whole = whole_file_problem(b"".join(lines.peek(1).partition(b"\n")[:2]), path)
            if whole is not None:
                yield RecordLine(0, None, (whole.at(file, None),))
                return
            for number, raw in enumerate(lines, 1):
                yield read(raw, number)
    except ContainerError as error:
        broken = Problem("unreadable file", error.problem, error.remedy)
        yield RecordLine(0, None, (broken.at(str(error.path), None),))
        return
    except OSError as error:
        yield RecordLine(0, None, (_unreadable(error).at(file, None),))
        return
    if number == 0:
        what, remedy = "the file is empty", "write one JSON record per line into it"
        if not is_plain(path):
            what, remedy = "the file holds no records", "put records into it"
        yield RecordLine(0, None, (Problem("empty file", what, remedy).at(file, None),))


def _unreadable(error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError):
        remedy = "check the name of the data folder"
        return Problem("missing file", "this file doesn't exist", remedy)
    reason = (error.strerror or "unknown error").lower()
    what = f"the file can't be read ({reason})"
    return Problem("unreadable file", what, "check its permissions")


def read_line(raw: bytes, file: str, number: int, columns: Columns = AS_NAMED) -> RecordLine:
    """Parse, convert and check one line of a file."""
    faults: list[Problem] = []
    if number == 1 and raw.startswith(codecs.BOM_UTF8):
        raw = raw.removeprefix(codecs.BOM_UTF8)
        faults.append(_BYTE_ORDER_MARK)
    parsed, form, plain, rejected = parse(raw), "", False, None
    if isinstance(parsed, Problem):
        fields, faults = None, [*faults, parsed]
    else:
        fields, form, original_names, plain, rejected = converted(renamed(parsed, columns))
        if plain and not faults and is_filled_pair(fields):
            return RecordLine(number, fields, (), form, tuple(placeholder_warnings(fields)))
        if columns:
            original_names = {**original_names, **_chosen_names(columns, original_names)}
        faults.extend(problems(fields, original_names))
        if form and not plain and liked(fields) is not None:
            form = LIKED_ANSWERS
    found = tuple(each.at(file, number) for each in faults)
    if fields is None or found:
        return RecordLine(number, fields, found, form, rejected=rejected)
    if plain:
        return RecordLine(number, fields, (), form, tuple(placeholder_warnings(fields)))
    excluded = exclusion(fields)
    warnings = () if excluded else tuple(record_warnings(fields))
    return RecordLine(number, fields, (), form, warnings, excluded, rejected)


_BYTE_ORDER_MARK: Final = Problem(
    "byte order mark", "the file begins with a byte order mark", "save it as UTF-8 without one"
)
_TRAINED: Final = ("prompt", "completion", "messages", "text")


def _chosen_names(columns: Columns, original_names: Mapping[str, str]) -> dict[str, str]:
    """The record's own field names, where the user mapped them."""
    chosen = columns.keys() - set(MESSAGE_NAMES)
    names = {name: original_names.get(name, name) for name in (*_TRAINED, *original_names)}
    return {name: columns[middle] for name, middle in names.items() if middle in chosen}

"""Rows of Parquet and Arrow tables as records: a bad value costs only its row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

FAULT: Final = "\0fault"
"""The key of a row that can't be read: its value is the problem and the fix."""

_MEDIA: Final = {"bytes", "path"}
"""The keys under which `datasets` stores an image or audio clip."""


def fault_row(problem: str, remedy: str) -> dict[str, Any]:
    """A row that stands for one that can't be read."""
    return {FAULT: [problem, remedy]}


def repeated_name(fields: Iterable[Any]) -> str | None:
    """A name used by two columns of a schema, or by two fields of one column."""
    fields = tuple(fields)
    names: list[str] = [each.name for each in fields]
    if twice := next((name for name in names if names.count(name) > 1), None):
        return twice
    within = ([each.type.field(at) for at in range(each.type.num_fields)] for each in fields)
    return next(filter(None, map(repeated_name, within)), None)


Reader = Callable[[Any], Any]
"""Makes a JSON value of a column's value. Raises `UnicodeDecodeError`."""


def readers_of(schema: Any) -> dict[str, Reader]:
    """How to read the columns whose values aren't JSON values as they are, by name."""
    found = ((each.name, _reader(each.type)) for each in schema)
    return {name: reader for name, reader in found if reader is not None}


def _reader(kind: Any) -> Reader | None:
    import pyarrow as pa

    types = pa.types
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _decoded
    if str(kind) == "extension<arrow.json>":
        return _from_json
    if types.is_map(kind):
        return lambda value: dict(value)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _reader(kind.value_type)
        return None if inner is None else _each(inner)
    if types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        if {each.name for each in fields} == _MEDIA:
            return lambda value: {**value, "bytes": None}
        return _struct({each.name: _reader(each.type) for each in fields})
    return None


def _decoded(value: bytes) -> str:
    """Bytes as text, since older Parquet writers don't mark text as such."""
    return value.decode()


def _from_json(value: str) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value


def _each(inner: Reader) -> Reader:
    return lambda value: [None if each is None else inner(each) for each in value]


def _struct(readers: dict[str, Reader | None]) -> Reader:
    """Reads a struct without its nulls: Arrow fills in the keys that other rows have."""

    def read(value: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for key, each in value.items():
            if each is not None:
                reader = readers.get(key)
                found[key] = each if reader is None else reader(each)
        return found

    return read


def rows_of(batch: Any, readers: dict[str, Reader]) -> Iterator[dict[str, Any]]:
    """The rows of a record batch; one with an unreadable value becomes a faulty row."""
    import pyarrow as pa

    try:
        rows = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        rows = _row_by_row(batch)
    yield from (_read(row, readers) for row in rows) if readers else rows


def _read(row: dict[str, Any], readers: dict[str, Reader]) -> dict[str, Any]:
    if FAULT in row:
        return row
    for name, reader in readers.items():
        if row[name] is not None:
            try:
                row[name] = reader(row[name])
            except UnicodeDecodeError as error:
                return _unreadable(name, error)
    return row


def _row_by_row(batch: Any) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    for values in zip(*map(_values, batch.columns), strict=True):
        row = dict(zip(names, values, strict=True))
        wrong = next((name for name in names if isinstance(row[name], Exception)), None)
        yield row if wrong is None else _unreadable(wrong, row[wrong])


def _values(column: Any) -> list[Any]:
    """A column's values, with an exception in place of each unreadable one.

    A time beyond Python's range is read as text, as Arrow writes it.
    """
    import pyarrow as pa

    unreadable = (pa.ArrowException, ValueError, OverflowError)
    try:
        return list(column.to_pylist())
    except unreadable:
        if not pa.types.is_temporal(column.type):
            return [_value(each, unreadable) for each in column]
    try:
        return list(column.cast(pa.string()).to_pylist())
    except unreadable:
        return [_value(each, unreadable) for each in column]


def _value(scalar: Any, unreadable: tuple[type[Exception], ...]) -> Any:
    try:
        return scalar.as_py()
    except unreadable as error:
        return error


def _unreadable(column: str, error: Exception) -> dict[str, Any]:
    if isinstance(error, UnicodeDecodeError):
        what, remedy = "bytes that are not UTF-8 text", "encode them as UTF-8 or drop the column"
    else:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")
        what = f"a value that can't be read ({reason})"
        remedy = "fix it or drop the column"
    return fault_row(f"the column {column} holds {what}", remedy)

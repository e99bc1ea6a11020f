"""Rows of Parquet and Arrow tables as records: a bad value costs only its row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

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


def holds_bytes(schema: Any) -> bool:
    """Whether a column holds bytes, also within lists and structs."""
    return any("binary" in str(each) for each in schema.types)


def rows_of(batch: Any, has_bytes: bool) -> Iterator[dict[str, Any]]:
    """The rows of a record batch; one with an unreadable value becomes a faulty row."""
    import pyarrow as pa

    try:
        rows = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        rows = _row_by_row(batch)
    yield from map(text_row, rows) if has_bytes else rows


def text_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row with bytes decoded to text, since older Parquet writers don't mark text as such."""
    read = {}
    for name, value in row.items():
        try:
            read[name] = _text(value)
        except UnicodeDecodeError as error:
            return _unreadable(name, error)
    return read


def _text(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode()
        case list() | tuple():
            return [_text(each) for each in value]
        case dict() if value.keys() == _MEDIA:
            return {**value, "bytes": None}
        case dict():
            return {key: _text(each) for key, each in value.items()}
        case _:
            return value


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

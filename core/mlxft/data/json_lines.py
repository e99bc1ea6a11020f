"""Parse the lines of a JSON Lines file, with a precise problem for each that is not a record."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft.data.container_errors import LFS, LFS_PROBLEM, LFS_REMEDY
from mlxft.data.faults import Problem
from mlxft.data.table_rows import FAULT

_FOREIGN: Final = (
    (b"\x1f\x8b", "the file is gzip-compressed", "add .gz to its name"),
    (b"\x28\xb5\x2f\xfd", "the file is zstd-compressed", "add .zst to its name"),
    (b"PAR1", "this is a Parquet file", "rename it to end in .parquet"),
    (b"ARROW1", "this is an Arrow file", "rename it to end in .arrow"),
    (b"PK\x03\x04", "this is a ZIP archive", "unpack it"),
    (b"SQLite format 3", "this is a database", "export its records as JSON Lines"),
    (LFS, LFS_PROBLEM, LFS_REMEDY),
    (b"<!DOCTYPE", "this is a web page", "download the file itself"),
    (b"<html", "this is a web page", "download the file itself"),
)
"""First bytes of files that are not JSON Lines, whatever their name says."""

_TEXT_FILES: Final = (".txt", ".md", ".text", ".rst")

_WIDE_TEXT: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def whole_file_problem(first: bytes, path: Path) -> Problem | None:
    """What the first line and the name reveal about the whole file."""
    if first.startswith(_WIDE_TEXT) or first[:64].count(0) > len(first[:64]) // 4:
        return Problem("encoding", "the file is UTF-16 or not text", "save it as UTF-8")
    for signature, problem, remedy in _FOREIGN:
        if first[: len(signature)].lower() == signature.lower():
            return Problem("not JSON lines", problem, remedy)
    if path.suffix.lower() in _TEXT_FILES and not first.lstrip().startswith((b"{", b"[")):
        return Problem(
            "not JSON lines", "this is a text file", 'write each passage as {"text": "…"} on a line'
        )
    return None


def parse(raw: bytes) -> dict[str, Any] | Problem:
    """The JSON object on a line, or why there is none."""
    try:
        value = _DECODER.decode(raw)
    except UnicodeDecodeError:
        return _NOT_UTF_8
    except (msgspec.DecodeError, RecursionError):
        return _bad_json(raw) if raw.strip() else _BLANK
    if isinstance(value, list) and value and all(map(_is_message, value)):
        return {"messages": value}
    if not isinstance(value, dict):
        return Problem(
            "not an object",
            f"this is {type_name(value)}, not a record",
            'write it as an object like {"prompt": "…", "completion": "…"}',
        )
    if FAULT in value:
        return _broken_row(value[FAULT])
    if _may_repeat_keys(raw, value) and (key := _repeated_key(raw)) is not None:
        return Problem(
            "repeated key", f"the key {shortened(key)} appears twice", "keep one of them"
        )
    return value


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


_DECODER: Final = msgspec.json.Decoder()
_BLANK: Final = Problem("blank line", "the line is blank", "remove it")
_NOT_UTF_8: Final = Problem("encoding", "the line is not UTF-8 text", "save the file as UTF-8")


_TEXT: Final = {str}


def _may_repeat_keys(raw: bytes, value: dict[str, Any]) -> bool:
    """Whether the line may hold more keys than were parsed; cheap, without parsing again."""
    if set(map(type, value.values())) == _TEXT and raw.count(b'"') == 4 * len(value):
        return False
    count, written = _count_keys(value), raw.count(b'":')
    return written != count and written - raw.count(b'\\":') != count


def _count_keys(value: Any) -> int:
    is_object = type(value) is dict
    count = len(value) if is_object else 0
    for each in value.values() if is_object else value:
        if type(each) is dict or type(each) is list:
            count += _count_keys(each)
    return count


def _repeated_key(raw: bytes) -> str | None:
    """The first key that appears twice in one object of the line."""
    found: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    with contextlib.suppress(ValueError, RecursionError):
        json.loads(raw, object_pairs_hook=collect)
    return found[0] if found else None


def _broken_row(reported: object) -> Problem:
    """What a table's reader reported about a row."""
    match reported:
        case [str(problem), str(remedy)]:
            return Problem("broken row", problem, remedy)
        case _:
            return Problem("broken row", "the row is broken", "fix or remove it")


def _bad_json(raw: bytes) -> Problem:
    """Where the JSON is invalid, from Python's parser, which accepts slightly more than ours."""
    if raw.startswith(codecs.BOM_UTF8):
        return Problem("byte order mark", "the line begins with a byte order mark", "remove it")
    try:
        json.loads(raw.decode().rstrip(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reason = _lower_first(error.msg.removesuffix(" at").removesuffix(" starting"))
        what = f"invalid JSON at column {error.pos + 1} ({reason})"
    except UnicodeDecodeError:
        return _NOT_UTF_8
    except RecursionError:
        what = "the JSON is nested too deep"
    except _ConstantError as error:
        what = f"the JSON holds {error}, which is not a JSON value"
    except ValueError:
        what = _OUT_OF_RANGE
    else:
        what = "the JSON holds half a surrogate pair" if _HALF.search(raw) else _OUT_OF_RANGE
    return Problem("bad JSON", what, "fix or remove the line")


_OUT_OF_RANGE: Final = "the JSON holds a number out of range"
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class _ConstantError(Exception):
    """NaN or Infinity, which Python's parser accepts."""


def _refuse_constant(name: str) -> object:
    raise _ConstantError(name)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


_TYPE_NAMES: Final[dict[type, str]] = {
    list: "a JSON list",
    str: "a JSON string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
}


def type_name(value: object) -> str:
    """What a JSON value is, for a sentence."""
    return _TYPE_NAMES[type(value)]


def shortened(text: str) -> str:
    """A text from a record, short enough for a sentence."""
    return text if len(text) <= 40 else f"{text[:39]}…"

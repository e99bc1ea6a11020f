"""What is wrong with a file of records, line by line, each with its remedy."""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mlxft.data.columns import AS_NAMED, OF_MESSAGES, Columns, renamed
from mlxft.data.containers import (
    LFS,
    LFS_PROBLEM,
    LFS_REMEDY,
    ContainerError,
    as_lines,
    has_lines,
    is_plain,
    place,
)
from mlxft.data.conversion import AS_TRAINED, CALLS, converted
from mlxft.data.formats import FORMATS, Fields, Format, detect
from mlxft.data.table_rows import FAULT
from mlxft.text.printable import printable_line

FaultKind = Literal[
    "missing file",
    "unreadable file",
    "empty file",
    "not JSON lines",
    "encoding",
    "byte order mark",
    "blank line",
    "bad JSON",
    "not an object",
    "unknown format",
    "empty field",
    "wrong type",
    "roles",
    "no answer",
    "no prompt",
    "broken row",
    "repeated key",
    "secret",
    "duplicate",
    "near duplicate",
    "in train",
    "too few",
    "template",
    "untrained",
    "too long",
    "prompt",
    "no end",
]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a record, wherever it stands, and what to do about it."""

    kind: FaultKind
    problem: str
    remedy: str

    def at(self, file: str, line: int | None) -> Fault:
        """The problem at its place."""
        return Fault(file, line, self.kind, self.problem, self.remedy)


@dataclass(frozen=True)
class Fault:
    """A problem at its place; `line` counts from 1, None is the file as a whole.

    Of a file that is no JSON lines it counts records, and of several files those of all; `str`
    names the one.
    """

    file: str
    line: int | None
    kind: FaultKind
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = self.file
        if self.line is not None:
            file, line = place(Path(self.file), self.line)
            where = f"{file} {'line' if has_lines(file) else 'record'} {line}"
        return printable_line(f"{where}: {self.problem}; {self.remedy}.")


@dataclass(frozen=True)
class Line:
    """A line of a file: its record as it is trained, and what is wrong with it."""

    number: int
    fields: dict[str, Any] | None
    faults: tuple[Fault, ...]
    format: str = ""
    """The format that the record is written in; empty where it is none that is known."""


def check(path: Path) -> Iterator[Fault]:
    """Every fault of a file in order, read as a stream."""
    for line in scan(path):
        yield from line.faults


def scan(path: Path, columns: Columns = AS_NAMED) -> Iterator[Line]:
    """Every line of a file with its faults, read as a stream.

    A fault of the file as a whole comes as a line 0 without a record.
    """
    file, number = str(path), 0
    if path.exists() and not path.is_file() and not path.is_dir():
        # A pipe would be waited for without end.
        remedy = "put the records into a plain file"
        special = Problem("unreadable file", "this is not a file", remedy)
        yield Line(0, None, (special.at(file, None),))
        return
    try:
        with as_lines(path).open("rb") as lines:
            # Not the first line: an array may be one of any size.
            whole = _whole_file_problem(b"".join(lines.peek(1).partition(b"\n")[:2]))
            if whole is not None:
                yield Line(0, None, (whole.at(file, None),))
                return
            for number, raw in enumerate(lines, 1):
                yield read_line(raw, file, number, columns)
    except ContainerError as error:
        broken = Problem("unreadable file", error.problem, error.remedy)
        yield Line(0, None, (broken.at(str(error.path), None),))
        return
    except OSError as error:
        yield Line(0, None, (_unreadable(file, error),))
        return
    if number == 0:
        what, remedy = "the file is empty", "write one JSON record a line into it"
        if not is_plain(path):
            what, remedy = "the file holds no record", "put records into it"
        yield Line(0, None, (Problem("empty file", what, remedy).at(file, None),))


def _unreadable(file: str, error: OSError) -> Fault:
    if isinstance(error, FileNotFoundError):
        problem = Problem(
            "missing file", "this file doesn't exist", "check the name of the data folder"
        )
    else:
        reason = (error.strerror or "unknown error").lower()
        problem = Problem(
            "unreadable file", f"the file can't be read ({reason})", "put a readable file there"
        )
    return problem.at(file, None)


_SPREAD: Final = re.compile(rb"\s*(\[\s*(\{.*)?|\{\s*)", re.DOTALL)
"""A first line that opens a JSON array, or an object that goes on below."""


_FOREIGN: Final = (
    (b"\x1f\x8b", "the file is packed by gzip", "add .gz to its name"),
    (b"\x28\xb5\x2f\xfd", "the file is packed by zstd", "add .zst to its name"),
    (b"PAR1", "this is a Parquet file", "give it the ending .parquet"),
    (b"ARROW1", "this is an Arrow file", "give it the ending .arrow"),
    (b"PK\x03\x04", "this is a ZIP archive", "unpack it"),
    (b"SQLite format 3", "this is a database", "write its records into a file of JSON lines"),
    (LFS, LFS_PROBLEM, LFS_REMEDY),
    (b"<!DOCTYPE", "this is a web page", "download the file itself"),
    (b"<html", "this is a web page", "download the file itself"),
)
"""How files begin that are no JSON lines, whatever their name says."""

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def _whole_file_problem(first: bytes) -> Problem | None:
    """What the beginning of the first line tells of the file."""
    if first.startswith(_UTF_16) or first[:64].count(0) > len(first[:64]) // 4:
        return Problem("encoding", "the file is UTF-16 or no text", "save it as UTF-8")
    for begins, problem, remedy in _FOREIGN:
        if first[: len(begins)].lower() == begins.lower():
            return Problem("not JSON lines", problem, remedy)
    if _SPREAD.fullmatch(first.removeprefix(codecs.BOM_UTF8)):
        return Problem(
            "not JSON lines",
            "the file holds JSON over several lines or in an array",
            "write each record as one JSON object on a line of its own, or name the file .json",
        )
    return None


def read_line(raw: bytes, file: str, number: int, columns: Columns = AS_NAMED) -> Line:
    """One line as a file holds it, parsed and checked."""
    faults: list[Problem] = []
    if number == 1 and raw.startswith(codecs.BOM_UTF8):
        raw = raw.removeprefix(codecs.BOM_UTF8)
        faults.append(
            Problem(
                "byte order mark",
                "the file begins with a byte order mark",
                "save it as UTF-8 without one",
            )
        )
    parsed, form = parse(raw), ""
    if isinstance(parsed, Problem):
        fields, faults = None, [*faults, parsed]
    else:
        fields, form, written = converted(renamed(parsed, columns))
        if columns:
            written = {**written, **_by_hand(columns, written)}
        faults.extend(problems(fields, written))
    return Line(number, fields, tuple(each.at(file, number) for each in faults), form)


def _by_hand(columns: Columns, written: Mapping[str, str]) -> dict[str, str]:
    """The record's own names of fields where a person has told them."""
    told = columns.keys() - set(OF_MESSAGES)
    names = {name: written.get(name, name) for name in (*_TRAINED, *written)}
    return {name: columns[middle] for name, middle in names.items() if middle in told}


_TRAINED: Final = ("prompt", "completion", "messages", "text")


def parse(raw: bytes) -> dict[str, Any] | Problem:
    """The JSON object of a line, or why it is none."""
    if not raw.strip():
        return Problem("blank line", "the line is blank", "remove it")
    try:
        value = msgspec.json.decode(raw)
    except UnicodeDecodeError:
        return Problem("encoding", "the line is not UTF-8 text", "save the file as UTF-8")
    except (msgspec.DecodeError, RecursionError):
        return _bad_json(raw)
    if not isinstance(value, dict):
        return Problem(
            "not an object",
            f"this is {_NAMES[type(value)]}, not a record",
            'write it as an object like {"prompt": "…", "completion": "…"}',
        )
    if FAULT in value:
        return _broken_row(value[FAULT])
    if _may_repeat_keys(raw, value) and (key := _repeated_key(raw)) is not None:
        return Problem(
            "repeated key", f"the key {_short(key)} is there twice", "keep the one that is meant"
        )
    return value


def _may_repeat_keys(raw: bytes, value: dict[str, Any]) -> bool:
    """Whether more keys may be written than were read, told without parsing again."""
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
    """The first key that an object of the line has twice."""
    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    with contextlib.suppress(ValueError, RecursionError):
        json.loads(raw, object_pairs_hook=look)
    return found[0] if found else None


def _broken_row(told: object) -> Problem:
    """What a table's reader said of a row."""
    match told:
        case [str(problem), str(remedy)]:
            return Problem("broken row", problem, remedy)
        case _:
            return Problem("broken row", "the row is broken", "correct it or remove it")


_NAMES: Final[dict[type, str]] = {
    list: "a JSON list",
    str: "a JSON text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
}


def _bad_json(raw: bytes) -> Problem:
    """Where the JSON breaks, as Python's parser tells it; it takes a little more than ours."""
    if raw.startswith(codecs.BOM_UTF8):
        return Problem("byte order mark", "the line begins with a byte order mark", "remove it")
    try:
        json.loads(raw.decode().rstrip(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reason = _lower_first(error.msg.removesuffix(" at").removesuffix(" starting"))
        what = f"the JSON breaks at column {error.pos + 1} ({reason})"
    except UnicodeDecodeError:
        return Problem("encoding", "the line is not UTF-8 text", "save the file as UTF-8")
    except RecursionError:
        what = "the JSON is nested too deep"
    except _ConstantError as error:
        what = f"the JSON holds {error}, which is no value of JSON"
    except ValueError:
        what = _OUT_OF_RANGE
    else:
        what = "the JSON holds half a surrogate pair" if _HALF.search(raw) else _OUT_OF_RANGE
    return Problem("bad JSON", what, "correct the line or remove it")


_OUT_OF_RANGE: Final = "the JSON holds a number out of range"
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class _ConstantError(Exception):
    """NaN or Infinity was read, which Python's parser takes."""


def _refuse_constant(name: str) -> object:
    raise _ConstantError(name)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def problems(fields: Fields, written: Mapping[str, str] = AS_TRAINED) -> Iterator[Problem]:
    """What keeps a record from being trained; `written` are the fields' names in the record."""
    found = detect(fields)
    if found is None:
        yield _unknown_format(fields)
        return
    match found.name:
        case "prompt/completion" | "text":
            for key in found.keys:
                if not _is_text(fields[key]):
                    yield from _text_problems(f"the {written.get(key, key)}", fields[key])
        case "messages":
            yield from _messages_problems(fields["messages"], written.get("messages", "messages"))
    if found.has_prompt and (tools := fields.get("tools")) is not None:
        yield from _tools_problems(tools)


def mask_problem(fields: Fields) -> Problem | None:
    """Why the prompt of this record can't be masked, if it can't."""
    found = detect(fields)
    return None if found is None or found.has_prompt else NO_PROMPT


NO_PROMPT: Final = Problem(
    "no prompt",
    "a text record has no prompt that mask_prompt could leave out",
    "turn mask_prompt off or write the record as prompt and completion",
)


_BY_HAND: Final = "with c on the Data screen, or by columns in recipe.yaml"


def _unknown_format(fields: Fields) -> Problem:
    keys = ", ".join(_short(key) for key in list(fields)[:8]) or "no keys"
    known = "; ".join(" and ".join(each.keys) for each in FORMATS)
    lone = next((each for each in FORMATS if _lacks_one(each, fields)), None)
    missing = next((key for key in lone.keys if key not in fields), "") if lone else ""
    if not missing and "instruction" in fields:
        missing = "output"
    if missing:
        return Problem(
            "unknown format", f"the record has no {missing}", "add it or remove the line"
        )
    return Problem(
        "unknown format",
        f"the record has {keys}",
        f"a record needs one of these: {known}; or choose its fields {_BY_HAND}",
    )


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _lacks_one(candidate: Format, fields: Fields) -> bool:
    return len(candidate.keys) > 1 and sum(key not in fields for key in candidate.keys) == 1


_UNSEEN: Final = " \t\r\n\u200b\u200c\u200d\u2060\ufeff"
"""Blanks, and characters without a width, which `strip` leaves."""


def _is_text(value: object) -> bool:
    """Whether there is something to read, told in a fraction of the time of telling what is not."""
    return isinstance(value, str) and bool(value.strip(_UNSEEN)) and not value.isspace()


def _text_problems(what: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, str):
        quoted = isinstance(value, int | float)
        remedy = "put it in double quotes" if quoted else "write a text in its place"
        yield Problem("wrong type", f"{what} is {_NAMES[type(value)]}, not text", remedy)
    elif not _is_text(value):
        yield Problem("empty field", f"{what} is empty", "fill it in or remove the line")


def _tools_problems(tools: object) -> Iterator[Problem]:
    listed = isinstance(tools, list) and all(isinstance(tool, Mapping) for tool in tools)
    if not listed:
        yield Problem(
            "wrong type",
            "tools is not a list of objects",
            "write it as a list of tool descriptions",
        )


def _messages_problems(messages: object, name: str) -> Iterator[Problem]:
    if not isinstance(messages, list):
        yield Problem(
            "wrong type",
            f"{name} is {_NAMES[type(messages)]}, not a list",
            'write it as a list like [{"role": "user", "content": "…"}, …]',
        )
        return
    if not messages:
        yield Problem("empty field", f"{name} is empty", "fill it in or remove the line")
        return
    whole = True
    for number, message in enumerate(messages, 1):
        for problem in _message_problems(f"message {number}", message):
            whole = False
            yield problem
    if whole:
        yield from _order_problems(messages)


_OF_MESSAGES: Final = ("role", "content", "value", "tool_calls", "tool_call_id", "name")

ROLES: Final = ("system", "user", "assistant", "tool")


def _message_problems(what: str, message: object) -> Iterator[Problem]:
    if not isinstance(message, Mapping):
        yield Problem(
            "not an object",
            f"{what} is {_NAMES[type(message)]}, not a message",
            'write it as an object like {"role": "user", "content": "…"}',
        )
        return
    role = message.get("role")
    if isinstance(role, str) and role in CALLS:
        yield Problem("roles", f"{what} calls no function by its name", _HOW_TO_CALL)
        return
    if role not in ROLES:
        named = f"the role {_short(str(role))}" if role else "no role"
        by_hand = f", or choose the key of the role {_BY_HAND}" if _is_foreign(message) else ""
        if isinstance(role, str) and role:
            by_hand = f", or choose who that is {_BY_HAND}"
        yield Problem("roles", f"{what} has {named}", f"use one of {', '.join(ROLES)}{by_hand}")
        return
    content, calls = message.get("content"), message.get("tool_calls")
    if calls and not (isinstance(calls, list) and all(map(_is_call, calls))):
        yield Problem("wrong type", f"the tool_calls of {what} name no function", _HOW_TO_CALL)
        return
    if role == "assistant" and calls and not content:
        return
    if "content" not in message:
        by_hand = f", or choose its key {_BY_HAND}" if _is_foreign(message) else ""
        remedy = f"add it or remove the line{by_hand}"
        yield Problem("empty field", f"{what} has no content", remedy)
    elif kind := _foreign_part(content):
        yield Problem(
            "wrong type",
            f"{what} has a part of the type {_short(kind)}, and only text is trained",
            "leave that part out or remove the line",
        )
    elif isinstance(content, list) and content and all(isinstance(e, Mapping) for e in content):
        yield Problem("empty field", f"a part of {what} has no text", "leave that part out")
    elif role in ("user", "assistant") or not isinstance(content, str):
        yield from _text_problems(f"the content of {what}", content)


_HOW_TO_CALL: Final = (
    'write a call like {"type": "function", "function": {"name": "…", "arguments": {…}}}'
)


def _is_foreign(message: Fields) -> bool:
    """Whether a message has keys that may stand for those it lacks."""
    return any(key not in _OF_MESSAGES for key in message)


def _is_call(call: object) -> bool:
    """Whether a function is called by its name."""
    called = call.get("function", call) if isinstance(call, Mapping) else None
    return isinstance(called, Mapping) and isinstance(called.get("name"), str)


def _foreign_part(content: object) -> str:
    """The type of the first part of a content that is not text."""
    parts = content if isinstance(content, list) else ()
    kinds = (str(part.get("type", "text")) for part in parts if isinstance(part, Mapping))
    return next((kind for kind in kinds if kind != "text"), "")


def _order_problems(messages: list[dict[str, Any]]) -> Iterator[Problem]:
    """Faults of order that no chat template mends; alternation is left to the template."""
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        yield Problem("roles", "a system message is not the first", "move it to the beginning")
    spoken = next((role for role in roles if role != "system"), None)
    if spoken == "assistant":
        yield Problem(
            "roles", "the assistant speaks before the user", "begin with the user's message"
        )
    if _has_loose_tool_result(messages):
        yield Problem(
            "roles",
            "a tool message follows no tool_calls",
            "put it after the assistant's message that calls the tool",
        )
    if roles[-1] != "assistant":
        yield Problem(
            "no answer",
            f"the conversation ends with the {roles[-1]}, so there is no answer to learn",
            "end it with an assistant message or remove the line",
        )


def _has_loose_tool_result(messages: list[dict[str, Any]]) -> bool:
    called = False
    for message in messages:
        if message["role"] == "tool" and not called:
            return True
        called = bool(message.get("tool_calls")) or (called and message["role"] == "tool")
    return False

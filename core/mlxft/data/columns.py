"""The user's mapping from the fields of their records to the names that the formats use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from mlxft.data.messages import listed, role_of_speaker

Columns = Mapping[str, str]
"""The record's field for each format name. For role and content it is a message's key, for user
and assistant the name of that role in the file."""

AS_NAMED: Final[Columns] = MappingProxyType({})

KEYS: Final = ("role", "content")
"""Names that map to a message's keys."""

SPEAKERS: Final = ("user", "assistant")
"""Roles that may have other names."""

MESSAGE_NAMES: Final = (*KEYS, *SPEAKERS)
"""Names that apply within the messages of a conversation, not to the record itself."""

_CONVERSATION_FIELDS: Final = (
    "messages",
    "conversations",
    "conversation",
    "prompt",
    "completion",
    "chosen",
    "rejected",
)
"""Fields that may hold messages."""


def renamed(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """The record with the chosen fields renamed; a missing field changes nothing.

    A field that already had the new name is replaced.
    """
    if not columns:
        return fields
    whole = _renamed(fields, {name: columns[name] for name in columns if name not in MESSAGE_NAMES})
    within = {name: columns[name] for name in MESSAGE_NAMES if name in columns}
    if not within:
        return whole
    return {
        key: _with_messages(value, within) if key in _CONVERSATION_FIELDS else value
        for key, value in whole.items()
    }


def turn_fields(records: Iterable[Mapping[str, Any]], columns: Columns) -> tuple[str, ...]:
    """The keys of the records' messages, as named in the file."""
    found: dict[str, None] = {}
    for record in records:
        for turn in _turns(record, columns):
            found |= dict.fromkeys(turn)
    return tuple(found)


def turn_roles(records: Iterable[Mapping[str, Any]], columns: Columns) -> tuple[str, ...]:
    """The role names in the records' messages."""
    keys = [columns["role"]] if "role" in columns else ["role", "from"]
    found: dict[str, None] = {}
    for record in records:
        for turn in _turns(record, columns):
            found_role = next((turn[key] for key in keys if key in turn), None)
            names = found_role if isinstance(found_role, list) else [found_role]
            found |= dict.fromkeys(name for name in names if isinstance(name, str))
    return tuple(found)


def missing_key(records: Iterable[Mapping[str, Any]], columns: Columns) -> str:
    """Which of role and content still has no key in the chosen conversations; empty for none."""
    found = turn_fields(records, columns) if {"messages", *KEYS} & columns.keys() else ()
    usual = {"role": {"role", "from"}, "content": {"content", "value", "tool_calls"}}
    known = {name: {*usual[name], columns.get(name)} for name in KEYS}
    return next((name for name in KEYS if found and not known[name].intersection(found)), "")


def _turns(fields: Mapping[str, Any], columns: Columns) -> Iterator[Mapping[str, Any]]:
    """A record's messages as written; a table of messages counts as one."""
    outer = {name: field for name, field in columns.items() if name not in MESSAGE_NAMES}
    record = _renamed(dict(fields), outer)
    for key in _CONVERSATION_FIELDS:
        turns = listed(record.get(key))
        for turn in turns if isinstance(turns, list) else [turns]:
            if isinstance(turn, Mapping):
                yield turn


def _with_messages(value: Any, columns: Columns) -> Any:
    """A conversation with its keys and roles renamed; anything else is unchanged."""
    turns = listed(value)
    if isinstance(turns, Mapping):
        return _message(dict(turns), columns)  # A table stores each field as a list.
    if not isinstance(turns, list):
        return value
    return [_message(turn, columns) if isinstance(turn, dict) else turn for turn in turns]


def _message(turn: dict[str, Any], columns: Columns) -> dict[str, Any]:
    message = _renamed(turn, {name: columns[name] for name in KEYS if name in columns})
    key = next((each for each in ("role", "from") if each in message), None)
    if key is None:
        return message
    who = message[key]
    roles = [_role(each, columns) for each in who] if isinstance(who, list) else _role(who, columns)
    return message if roles == who else {**message, key: roles}


def _role(name: Any, columns: Columns) -> Any:
    """The role mapped to a name; usual names are recognized if the role's key was chosen."""
    chosen = next((role for role in SPEAKERS if columns.get(role) == name), None)
    if chosen is None and "role" in columns and isinstance(name, str):
        return role_of_speaker(name)
    return name if chosen is None else chosen


def _renamed(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    taken = {name: fields[field] for name, field in columns.items() if field in fields}
    if not taken:
        return fields
    used = {columns[name] for name in taken}
    return {**{key: value for key, value in fields.items() if key not in used}, **taken}

"""Fields of records under the names that the formats know, where a person says which is which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from mlxft.data.conversion import listed, role_of_speaker

Columns = Mapping[str, str]
"""A record's field for each name that a format knows; of role and content, a message's key; of
user and assistant, what that role is called there."""

AS_NAMED: Final[Columns] = MappingProxyType({})

KEYS: Final = ("role", "content")
"""Names of a message's keys."""

SPEAKERS: Final = ("user", "assistant")
"""Roles that may be called otherwise."""

OF_MESSAGES: Final = (*KEYS, *SPEAKERS)
"""Names that stand in the messages of a conversation, not in the record itself."""

_CONVERSATIONS: Final = (
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
    """The record with the chosen fields under their new names; a field that it lacks changes none.

    A field that had such a name gives way.
    """
    if not columns:
        return fields
    whole = _renamed(fields, {name: columns[name] for name in columns if name not in OF_MESSAGES})
    within = {name: columns[name] for name in OF_MESSAGES if name in columns}
    if not within:
        return whole
    return {
        key: _with_messages(value, within) if key in _CONVERSATIONS else value
        for key, value in whole.items()
    }


def turn_fields(records: Iterable[Mapping[str, Any]], columns: Columns) -> tuple[str, ...]:
    """The keys of the records' messages, under their own names."""
    found: dict[str, None] = {}
    for record in records:
        for turn in _turns(record, columns):
            found |= dict.fromkeys(turn)
    return tuple(found)


def turn_roles(records: Iterable[Mapping[str, Any]], columns: Columns) -> tuple[str, ...]:
    """What the roles are called in the records' messages."""
    keys = [columns["role"]] if "role" in columns else ["role", "from"]
    found: dict[str, None] = {}
    for record in records:
        for turn in _turns(record, columns):
            said = next((turn[key] for key in keys if key in turn), None)
            names = said if isinstance(said, list) else [said]
            found |= dict.fromkeys(name for name in names if isinstance(name, str))
    return tuple(found)


def not_told(records: Iterable[Mapping[str, Any]], columns: Columns) -> str:
    """Which of role and content has no key in conversations that were told; empty for none."""
    found = turn_fields(records, columns) if {"messages", *KEYS} & columns.keys() else ()
    usual = {"role": {"role", "from"}, "content": {"content", "value", "tool_calls"}}
    known = {name: {*usual[name], columns.get(name)} for name in KEYS}
    return next((name for name in KEYS if found and not known[name].intersection(found)), "")


def _turns(fields: Mapping[str, Any], columns: Columns) -> Iterator[Mapping[str, Any]]:
    """A record's messages as they are written; a table of them as one."""
    outer = {name: field for name, field in columns.items() if name not in OF_MESSAGES}
    record = _renamed(dict(fields), outer)
    for key in _CONVERSATIONS:
        turns = listed(record.get(key))
        for turn in turns if isinstance(turns, list) else [turns]:
            if isinstance(turn, Mapping):
                yield turn


def _with_messages(value: Any, columns: Columns) -> Any:
    """A conversation with its messages' keys and roles renamed; anything else as it is."""
    turns = listed(value)
    if isinstance(turns, Mapping):
        return _message(dict(turns), columns)  # A table holds each of their fields as a list.
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
    """The role that a name was told to be, or is known to be where the key of roles was told."""
    told = next((role for role in SPEAKERS if columns.get(role) == name), None)
    if told is None and "role" in columns and isinstance(name, str):
        return role_of_speaker(name)
    return name if told is None else told


def _renamed(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    taken = {name: fields[field] for name, field in columns.items() if field in fields}
    if not taken:
        return fields
    used = {columns[name] for name in taken}
    return {**{key: value for key, value in fields.items() if key not in used}, **taken}

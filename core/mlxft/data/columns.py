"""Fields of records under the names that the formats know, where a person says which is which."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mlxft.data.conversion import listed

Columns = Mapping[str, str]
"""A record's field for each name that a format knows; of role and content, a message's."""

AS_NAMED: Final[Columns] = MappingProxyType({})

OF_MESSAGES: Final = ("role", "content")
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


def turn_fields(fields: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    """The keys of a record's messages, under their own names."""
    outer = {name: field for name, field in columns.items() if name not in OF_MESSAGES}
    record = _renamed(dict(fields), outer)
    found: dict[str, None] = {}
    for key in _CONVERSATIONS:
        turns = listed(record.get(key))
        for turn in turns if isinstance(turns, list) else [turns]:
            found |= dict.fromkeys(turn) if isinstance(turn, Mapping) else {}
    return tuple(found)


def _with_messages(value: Any, columns: Columns) -> Any:
    """A conversation with its messages' keys renamed; anything else as it is."""
    turns = listed(value)
    if isinstance(turns, Mapping):
        return _renamed(dict(turns), columns)  # A table holds each of their fields as a list.
    if not isinstance(turns, list):
        return value
    return [_renamed(turn, columns) if isinstance(turn, dict) else turn for turn in turns]


def _renamed(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    taken = {name: fields[field] for name, field in columns.items() if field in fields}
    if not taken:
        return fields
    used = {columns[name] for name in taken}
    return {**{key: value for key, value in fields.items() if key not in used}, **taken}

"""Fields of records under the names that the formats know, where a person says which is which."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

Columns = Mapping[str, str]
"""A record's field for each name that a format knows."""

AS_NAMED: Final[Columns] = MappingProxyType({})


def renamed(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """The record with the chosen fields under their new names; a field that it lacks changes none.

    A field that had such a name gives way.
    """
    if not columns:
        return fields
    taken = {name: fields[field] for name, field in columns.items() if field in fields}
    if not taken:
        return fields
    used = {columns[name] for name in taken}
    return {**{key: value for key, value in fields.items() if key not in used}, **taken}

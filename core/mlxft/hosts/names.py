"""Names and addresses of hosts, checked before ssh or a shell gets them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from mlxft.errors import RecipeError
from mlxft.hosts.types import Host
from mlxft.text.printable import printable_line

MOST_RANKS: Final = 256

_NAME: Final = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
)
"""A name as ssh takes it; a hyphen at its start would be an option."""


def check_name(name: str, place: str) -> None:
    """Raises `RecipeError` for a name that ssh could take as an option or a shell as more words."""
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"{place} has the name {printable_line(name)!r}; a host's name consists of letters, "
            "digits, dots, hyphens and underscores, and begins with a letter or a digit."
        )


def check_count(ranks: int, place: str) -> None:
    """Raises `RecipeError` for more ranks than there may be."""
    if ranks > MOST_RANKS:
        raise RecipeError(f"{place} has {ranks} names; name at most {MOST_RANKS}.")


def check_alone(hosts: Sequence[Host], place: str) -> None:
    """Raises `RecipeError` for a single machine by its name, since this one is rank 0."""
    if len(hosts) == 1:
        raise RecipeError(
            f"{place} names only {hosts[0].name}; name this machine first and then the others, as "
            f"this-mac, {hosts[0].name}."
        )


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text

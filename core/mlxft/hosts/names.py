"""Names and addresses of hosts, checked before ssh or a shell gets them."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from mlxft.errors import RecipeError
from mlxft.text.printable import printable_line

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


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text

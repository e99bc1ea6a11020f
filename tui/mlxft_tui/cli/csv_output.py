"""CSV on standard output."""

from __future__ import annotations

import sys

from mlxft.text.printable import printable


def print_csv(text: str) -> None:
    """Print CSV: its values as they are for a program; a terminal would take some as commands."""
    print(printable(text) if sys.stdout.isatty() else text, end="")

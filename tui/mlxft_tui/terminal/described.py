"""The terminal as the doctor judges it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from mlxft.doctor.terminal import Terminal
from mlxft_tui.terminal.modes import has_synchronized_output


def of_command() -> Terminal:
    """The terminal of a command; without a size where the output goes elsewhere."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return _described(None, None)
    reading, writing = sys.stdin.fileno(), sys.stderr.fileno()
    try:
        size = os.get_terminal_size(writing)
    except OSError:
        return _described(None, None)
    return _described((size.columns, size.lines), has_synchronized_output(reading, writing))


def of_app(columns: int, rows: int) -> Terminal:
    """The terminal that the app paints; asking it would take the user's keys."""
    # Textual replaces the standard streams, and paints on the original standard error.
    return _described((columns, rows), None, sys.__stderr__)


def _described(
    size: tuple[int, int] | None, synchronized: bool | None, stream: TextIO | None = sys.__stdout__
) -> Terminal:
    encoding = (stream and stream.encoding) or "ascii"
    return Terminal(dict(os.environ), size, encoding, synchronized, _is_in_mosh())


def _is_in_mosh() -> bool:
    """Whether mosh's server is among this process's parents."""
    import psutil

    try:
        return any("mosh-server" in each.name() for each in psutil.Process().parents())
    except (OSError, RuntimeError, psutil.Error):
        return False

"""The connection to the terminal: remote or local, and what to do when it closes."""

from __future__ import annotations

import asyncio
import codecs
import io
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable
from typing import Final

from rich.cells import cell_len

CHECK_SECONDS = 2.0
"""Interval at which the watchdog checks that the terminal still exists."""


_LOOKALIKES: Final = str.maketrans(
    "─━│┃╭╮╰╯┌┐└┘├┤┬┴┼▕▏█▌·…—→←↑↓▸▪■●○◌◆▲✓✗‖×÷“”’‹›°\N{NO-BREAK SPACE}",
    '-=||+++++++++++++||#|.~-><^v>*#ooo*^vx=x/""\'<>o ',
)


def is_remote() -> bool:
    """Whether each painted cell travels over SSH."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))


def replace_missing_characters() -> None:
    """Replace characters missing from the terminal's encoding by similar ones of equal width."""
    codecs.register_error("lookalike", lookalike)
    if isinstance(sys.__stderr__, io.TextIOWrapper):
        # Textual paints on standard error.
        sys.__stderr__.reconfigure(errors="lookalike")


def lookalike(error: UnicodeError) -> tuple[str, int]:
    """An encoding error handler; characters without a lookalike become question marks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_plain(character) for character in missing), error.end


def _plain(character: str) -> str:
    plain = character.translate(_LOOKALIKES)
    return plain if plain.isascii() else "?" * cell_len(character)


def on_hangup_and_termination(leave: Callable[[int], None]) -> None:
    """Call `leave` with exit code 128 + signal, so that the terminal is restored."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGTERM):
        loop.add_signal_handler(number, leave, 128 + number)


def watch() -> None:
    """End the process if its terminal disappears without a signal.

    A dead terminal blocks the driver's write queue and with it the event loop, so only ``_exit``
    is sure to work.
    """
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ else -1
    if os.isatty(descriptor):
        threading.Thread(target=_watch, args=(descriptor,), daemon=True).start()


def _watch(descriptor: int) -> None:
    wait = threading.Event().wait
    failures = 0
    # Two checks, to leave time for an orderly exit after a hang-up.
    while failures < 2:
        wait(CHECK_SECONDS)
        failures = 0 if _exists(descriptor) else failures + 1
    os._exit(128 + signal.SIGHUP)


def _exists(descriptor: int) -> bool:
    try:
        termios.tcgetattr(descriptor)
    except termios.error:
        return False
    return True

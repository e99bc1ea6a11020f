"""The terminal the viewer lives in: whether it is far away, and what happens when it goes."""

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

LOOK_SECONDS = 2.0
"""How often the watchdog looks whether the terminal is still there."""


_LOOKALIKES: Final = str.maketrans(
    "─━│┃┌┐└┘├┤┬┴┼▕▏█▌·…—→←↑↓▸▪■●○◌◆▲✓✗‖×÷“”’‹›°",
    '-=||+++++++++||#|.~-><^v>*#ooo*^vx=x/""\'<>o',
)


def is_remote() -> bool:
    """Whether each painted cell travels over SSH."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))


def spell_missing_signs() -> None:
    """Have each sign that the terminal's encoding lacks written as one like it and as wide."""
    codecs.register_error("lookalike", lookalike)
    if isinstance(sys.__stderr__, io.TextIOWrapper):
        # Textual paints on standard error.
        sys.__stderr__.reconfigure(errors="lookalike")


def lookalike(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors; a sign that nothing is like becomes question marks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_plain(sign) for sign in missing), error.end


def _plain(sign: str) -> str:
    plain = sign.translate(_LOOKALIKES)
    return plain if plain.isascii() else "?" * cell_len(sign)


def on_hangup_and_termination(leave: Callable[[int], None]) -> None:
    """Call `leave` with the exit code, 128 + the signal, instead of dying with the screen drawn."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGTERM):
        loop.add_signal_handler(number, leave, 128 + number)


def watch() -> None:
    """End the process once its terminal is gone and no signal has said so.

    A dead terminal blocks the driver's queue of writes and with it the event loop, so that
    nothing short of ``_exit`` is sure to work.
    """
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ else -1
    if os.isatty(descriptor):
        threading.Thread(target=_watch, args=(descriptor,), daemon=True).start()


def _watch(descriptor: int) -> None:
    wait = threading.Event().wait
    gone = 0
    # Two looks, so that an orderly exit after a hang-up has the time it needs.
    while gone < 2:
        wait(LOOK_SECONDS)
        gone = 0 if _answers(descriptor) else gone + 1
    os._exit(128 + signal.SIGHUP)


def _answers(descriptor: int) -> bool:
    try:
        termios.tcgetattr(descriptor)
    except termios.error:
        return False
    return True

"""The terminal the viewer lives in: whether it is far away, and what happens when it goes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable

LOOK_SECONDS = 2.0
"""How often the watchdog looks whether the terminal is still there."""


def is_remote() -> bool:
    """Whether each painted cell travels over SSH."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))


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

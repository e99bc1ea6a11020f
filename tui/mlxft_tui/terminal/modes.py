"""Ask the terminal which modes it has."""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import time
import tty
from typing import Final

_QUESTION: Final = b"\x1b[?2026$p\x1b[c"
"""Is there synchronized output? Every terminal answers the second question, which ends the wait."""

_DEVICE: Final = re.compile(rb"\x1b\[\?[\d;]*c")
_MODE: Final = re.compile(rb"\x1b\[\?2026;(\d)\$y")

ANSWER_SECONDS: Final = 1.0
"""How long the answer may take; a slow link needs most of it."""


def has_synchronized_output(
    reading: int, writing: int, seconds: float = ANSWER_SECONDS
) -> bool | None:
    """Whether the terminal paints a frame at once; None if it doesn't answer in time.

    The descriptors are those of a terminal in the foreground. Keys typed meanwhile are lost.
    """
    try:
        before = termios.tcgetattr(reading)
    except termios.error:
        return None
    try:
        tty.setcbreak(reading, termios.TCSANOW)
        os.write(writing, _QUESTION)
        return parse_answer(_answer(reading, seconds))
    except (OSError, termios.error):
        return None
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(reading, termios.TCSANOW, before)


def parse_answer(answer: bytes) -> bool | None:
    """The answer's meaning: 0 is an unknown mode, 4 one that is always off."""
    if not _DEVICE.search(answer):
        return None
    mode = _MODE.search(answer)
    return mode is not None and mode[1] in (b"1", b"2", b"3")


def _answer(reading: int, seconds: float) -> bytes:
    end, answer = time.monotonic() + seconds, b""
    while not _DEVICE.search(answer):
        if not select.select([reading], [], [], max(0.0, end - time.monotonic()))[0]:
            break
        answer += os.read(reading, 256)
    return answer

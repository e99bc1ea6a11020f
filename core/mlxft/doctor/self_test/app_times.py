"""How long the app takes to paint: a real app in a pseudo-terminal, and keys sent to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mlxft.doctor.self_test.watch import Watch

SIZE: Final = (120, 40)
"""Columns and rows."""

PAINTED: Final = 1500
"""Bytes from which on the first screen counts as painted."""

START_SECONDS: Final = 30.0
QUIET: Final = 0.3
"""Seconds without output after which nothing more is painted by itself."""

MOST: Final = 3.0
"""Seconds that a key is waited for."""

KEYS: Final = (b"2", b"j", b"j", b"k", b"5", b"1")
"""Other screens, and the cursor of a list."""


def measured(
    command: Sequence[str],
    folder: Path,
    keys: int,
    watch: Watch,
    environment: Mapping[str, str] | None = None,
) -> tuple[float | None, list[float]]:
    """Seconds until the first paint, None if there is none, and from each key to its paint."""
    main, other = pty.openpty()
    fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    started = time.monotonic()
    process = subprocess.Popen(
        list(command),
        stdin=other,
        stdout=other,
        stderr=other,
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", **(environment or {})},
        start_new_session=True,
    )
    os.close(other)
    try:
        app = _App(main, watch)
        if not app.has_painted(PAINTED, START_SECONDS):
            return None, []
        painted = app.last - started
        app.settle()
        return painted, [each for at in range(keys) if (each := app.key(KEYS[at % len(KEYS)]))]
    finally:
        _end(process)
        os.close(main)


class _App:
    """A program's end of a pseudo-terminal."""

    def __init__(self, descriptor: int, watch: Watch) -> None:
        self._descriptor, self._watch = descriptor, watch
        self._received = 0
        self.last = time.monotonic()
        """When output came last."""

    def has_painted(self, size: int, seconds: float) -> bool:
        """Whether so many bytes come in this time."""
        end = time.monotonic() + seconds
        while self._received < size:
            if time.monotonic() > end or not self._receive(0.1):
                return False
        return True

    def settle(self) -> None:
        """Wait until nothing is painted any more, or as long as a key is waited for."""
        end = time.monotonic() + MOST
        while time.monotonic() < min(end, self.last + QUIET) and self._receive(0.05):
            pass

    def key(self, key: bytes) -> float | None:
        """Seconds from a key to what it paints; None if it paints nothing."""
        sent, before = time.monotonic(), self._received
        os.write(self._descriptor, key)
        while self._received == before and time.monotonic() < sent + MOST:
            if not self._receive(0.05):
                return None
        seconds = self.last - sent if self._received > before else None
        self.settle()
        return seconds

    def _receive(self, seconds: float) -> bool:
        """Take what comes within this time; False once the program has ended."""
        self._watch.need_time()
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:
            return False
        self._received += len(data)
        self.last = time.monotonic()
        return bool(data)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the app and what it has started, which ends with it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

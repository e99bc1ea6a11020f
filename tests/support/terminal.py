"""A real pseudo-terminal with a program in it: its screen, its bytes, and when they came."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import queue
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyte


@dataclass(frozen=True)
class Chunk:
    """Bytes the program wrote, and when they were read (seconds, monotonic)."""

    time: float
    data: bytes


class Terminal:
    """Runs a program on a pty of its own session and keeps what it paints."""

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 120,
        rows: int = 40,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self.chunks: list[Chunk] = []
        self._master, slave = pty.openpty()
        self.resize(columns, rows, tell=False)
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color", **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._attributes = termios.tcgetattr(slave)
        os.close(slave)
        # A descriptor that another thread is blocked on stays open when it is closed.
        self._wake, self._waker = os.pipe()
        self._reading = threading.Event()
        self._reading.set()
        self._drawn_at = 0.0
        """When what was drawn last had come."""
        self._came = queue.SimpleQueue[Chunk | None]()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        # Drawing takes longer than reading: output that arrives meanwhile must not be read late.
        threading.Thread(target=self._draw, daemon=True).start()

    def _read(self) -> None:
        while True:
            self._reading.wait()
            ready, _, _ = select.select([self._master, self._wake], [], [])
            if not self._reading.is_set():
                continue
            try:
                data = b"" if self._wake in ready else os.read(self._master, 65536)
            except OSError:
                data = b""
            if data:
                self.chunks.append(Chunk(time.monotonic(), data))
            self._came.put(self.chunks[-1] if data else None)
            if not data:
                return

    def _draw(self) -> None:
        while chunk := self._came.get():
            with self._changed:
                self._drawn_at = chunk.time
                # A screen model that fails on an unusual sequence must not end the test.
                with contextlib.suppress(Exception):
                    self._stream.feed(chunk.data)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return "\n".join(self._screen.display)

    @property
    def output(self) -> bytes:
        """Everything the program has written."""
        return b"".join(chunk.data for chunk in tuple(self.chunks))

    def wait(self, condition: Callable[[], bool], seconds: float = 30.0) -> float:
        """Seconds from now until the output after which the condition holds.

        What this model of a terminal takes to draw it is left out. Raises `AssertionError` with
        the screen if it does not hold in time.
        """
        start = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise AssertionError(f"not within {seconds} s; the screen:\n{self.text}")
            return max(0.0, self._drawn_at - start)

    def wait_for(self, text: str, seconds: float = 30.0) -> float:
        """Wait until the screen shows the text."""
        return self.wait(lambda: text in self.text, seconds)

    def wait_quiet(self, seconds: float = 1.5, patience: float = 30.0) -> None:
        """Wait until nothing was written for so long.

        Raises `AssertionError` if the program keeps writing.
        """
        end = time.monotonic() + patience
        with self._changed:
            while self._changed.wait(seconds):
                if time.monotonic() > end:
                    raise AssertionError(f"still written to after {patience} s")

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Read nothing for the time being, as a link that hangs."""
        self._reading.clear()
        try:
            yield
        finally:
            self._reading.set()

    def send(self, keys: str) -> None:
        """Type."""
        self.send_bytes(keys.encode())

    def send_bytes(self, data: bytes) -> None:
        """Type what may be no text."""
        os.write(self._master, data)

    def resize(self, columns: int, rows: int, tell: bool = True) -> None:
        """Give the terminal another size, as dragging its window does."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            with self._changed:
                self._screen.resize(rows, columns)
            os.killpg(self.process.pid, signal.SIGWINCH)

    def hang_up(self) -> None:
        """Close the terminal, as a dropped link does."""
        self._stop_reading()
        os.close(self._master)
        self._master = -1

    def _stop_reading(self) -> None:
        os.write(self._waker, b"x")
        self._reader.join(5)

    def exit_code(self, seconds: float = 30.0) -> int:
        """Wait for the program's end; negative for the signal that killed it."""
        return self.process.wait(seconds)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._master >= 0:
            self.hang_up()
        os.close(self._wake)
        os.close(self._waker)

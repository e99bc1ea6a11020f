"""Measurements with MLX in a child process, which ends with the self-test."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
from typing import Any, Final, TypeVar

import msgspec

from mlxft.doctor.self_test.watch import OutOfTimeError, Watch
from mlxft.engine.blas import blas_environment
from mlxft.self_test.checks import REPORT, Check, left_out
from mlxft.self_test.figures import Measured, Wanted
from mlxft.text.printable import printable_line

T = TypeVar("T")

LIMIT: Final = 150.0
"""Seconds that one measurement may take: CUDA may have to compile all kernels of a step."""

END_SECONDS: Final = 5.0
"""How long the process may take to end once it answers no more."""

_POLL: Final = 0.1

_ENGINE: Final = ("-P", "-m", "mlxft.engine", "measure")


class Measuring:
    """Measures in a process of its own, one thing after the other.

    The process is started when it is needed, and another one after a failure or where something was
    left in its memory.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._child: _Child | None = None

    def measured(self, name: str, request: Any, kind: type[T], subject: str) -> T | Check:
        """What a measurement finds, or why it found nothing. Raises `CancelledError`."""
        self._watch.measuring(subject)
        wanted = msgspec.json.encode(Wanted(name, msgspec.Raw(msgspec.json.encode(request))))
        try:
            self._watch.need_time()
            self._child = self._child or _Child()
            line = self._child.answer(wanted, self._watch)
            found = msgspec.json.decode(line, type=Measured)
            if found.is_last:
                self.end()
            return msgspec.json.decode(found.found, type=kind)
        except OutOfTimeError:
            self.end()
            return left_out(subject)
        except TimeoutError:
            self.end()
            return Check(subject, "left_out", f"took more than {LIMIT:.0f} s")
        except msgspec.DecodeError:
            return self._failed(subject)

    def _failed(self, subject: str) -> Check:
        """What the process said at its end."""
        reason = self._child.last_error_line() if self._child else ""
        self.end()
        seen = printable_line(reason)[:200] or "the process printed nothing"
        return Check(
            subject, "differs", seen, f"It can't be computed here; update mlx, or {REPORT}."
        )

    def end(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            self._child.end()
            self._child = None


class _Child:
    """A process that answers lines with lines."""

    def __init__(self) -> None:
        self._files = contextlib.ExitStack()
        self._errors = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, *_ENGINE],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **blas_environment()},
            start_new_session=True,
        )
        for each in (self._process.stdin, self._process.stdout):
            assert each is not None
            self._files.enter_context(each)

    def answer(self, line: bytes, watch: Watch) -> bytes:
        """The line that answers this one; what came of it if the process has ended.

        Raises `TimeoutError`, and `OutOfTimeError` and `CancelledError` as the watch does.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + b"\n")
        received, end = b"", watch.elapsed + LIMIT
        while not received.endswith(b"\n"):
            watch.need_time()
            if watch.elapsed > end:
                raise TimeoutError
            if select.select([self._process.stdout], [], [], _POLL)[0]:
                data = os.read(self._process.stdout.fileno(), 2**16)
                if not data:
                    break
                received += data
        return received

    def last_error_line(self) -> str:
        """The last line of its errors, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        self._files.close()

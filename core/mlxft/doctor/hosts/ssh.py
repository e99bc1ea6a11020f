"""One question to another machine over SSH, without a prompt and with an end."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

CONNECT_SECONDS: Final = 10
ANSWER_SECONDS: Final = 60.0
"""How long a machine may take altogether; a model of hundreds of files takes seconds."""

MOST_OUTPUT: Final = 200_000
"""Bytes that are read of an answer and of errors; a machine that says more is cut short."""

NO_FOLDER: Final = 66
"""The exit status where the project's folder is missing; ssh's own is 255, a shell's 126 or 127."""

_OPTIONS: Final = (
    *("-T", "-o", "BatchMode=yes", "-o", "NumberOfPasswordPrompts=0"),
    *("-o", f"ConnectTimeout={CONNECT_SECONDS}", "-o", "LogLevel=ERROR"),
    # A connection that stays for later ones would keep our pipes open.
    *("-o", "ControlMaster=no"),
)


@dataclass(frozen=True)
class Answer:
    """What a machine has printed, and ssh's exit status; None if it took too long."""

    status: int | None
    output: str
    errors: str


def ask(
    name: str,
    command: Sequence[str],
    folder: Path,
    question: bytes,
    seconds: float = ANSWER_SECONDS,
) -> Answer:
    """Run a command in a folder of the machine of this checked name, with the question on standard
    input.

    Raises `OSError` where there is no ssh.
    """
    process = subprocess.Popen(
        ["ssh", *_OPTIONS, "--", name, _script(command, folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # So that it ends with all that it has started.
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        return _exchange(process, question, late)
    finally:
        timer.cancel()
        _kill(process)
        process.wait()


def _exchange(process: subprocess.Popen[bytes], question: bytes, late: threading.Event) -> Answer:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[bytes] = []
    reading = threading.Thread(target=lambda: errors.append(_read(process.stderr)), daemon=True)
    reading.start()
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(question)
    output = _read(process.stdout)
    if len(output) == MOST_OUTPUT:
        _kill(process)
    reading.join()
    process.wait()
    for each in (process.stdout, process.stderr):
        each.close()
    status = None if late.is_set() else process.returncode
    return Answer(status, _text(output), _text(b"".join(errors)))


def _read(stream: IO[bytes] | None) -> bytes:
    """All of a stream, or as much as is read of one."""
    assert stream is not None
    return stream.read(MOST_OUTPUT)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # Not yet waited for, so the number is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _script(command: Sequence[str], folder: Path) -> str:
    """For the other machine's shell, whichever it is."""
    script = f"cd {shlex.quote(str(folder))} || exit {NO_FOLDER}; exec {shlex.join(command)}"
    return f"exec sh -c {shlex.quote(script)}"


def _text(data: bytes) -> str:
    return data.decode(errors="replace")

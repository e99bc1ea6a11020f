"""What the user is notified of, and how: by a command, by a Mac, by the app's terminal."""

from __future__ import annotations

import contextlib
import difflib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Final, Literal, get_args

import msgspec

from mlxft.errors import MlxftError
from mlxft.storage.paths import expanded
from mlxft.storage.regular_files import read_config
from mlxft.text import path_json
from mlxft.watching.occasions import KINDS, Occasion, OccasionKind

TerminalSignal = Literal["none", "bell", "osc9", "osc777"]

KEPT_BYTES: Final = 4096
"""The most of a command's output that is kept; the rest is read and forgotten."""

LOG_BYTES: Final = 300
"""The most of a command's own words that a warning quotes."""


@dataclass(frozen=True, kw_only=True)
class Notifications:
    """What ``notifications.toml`` says; without the file nobody is notified."""

    command: tuple[str, ...] = ()
    """A program with its arguments, run without a shell."""
    desktop: bool = False
    """Whether a Mac shows a notification."""
    terminal: TerminalSignal = "none"
    """What the app sends to its terminal."""
    events: tuple[OccasionKind, ...] = KINDS
    seconds: float = 30.0
    """How long the command may take."""

    @property
    def wants_process(self) -> bool:
        """Whether to notify although no app may be open."""
        return bool(self.command) or (self.desktop and sys.platform == "darwin")


def load(file: Path) -> Notifications:
    """The user's notifications; the defaults where there is no file.

    Raises `MlxftError` for a key or a value that isn't one.
    """
    try:
        entries = tomllib.loads(read_config(file))
    except FileNotFoundError:
        return Notifications()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MlxftError(f"{file}: the notifications can't be read ({error}).") from None
    known = [each.name for each in fields(Notifications)]
    for key in entries:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}."
            raise MlxftError(f"{file}: {key} is not a setting; {hint}")
    try:
        found = msgspec.convert(entries, Notifications)
    except msgspec.ValidationError as error:
        raise MlxftError(f"{file}: {_problem(str(error))}") from None
    if not 0 < found.seconds <= 3600:
        raise MlxftError(f"{file}: seconds is {found.seconds:g}; it must be above 0, to 3600.")
    return found


def _problem(error: str) -> str:
    """msgspec's error with the values that are possible."""
    choices = {"terminal": get_args(TerminalSignal), "events": KINDS}
    for key, values in choices.items():
        if f"$.{key}" in error:
            return f"{key} must be of {', '.join(values)}."
    if "$.command" in error:
        return 'command must be a list of a program and its arguments, as ["notify-send", "mlxft"].'
    return f"{error}."


def deliver(occasion: Occasion, wanted: Notifications) -> list[str]:
    """Run the command and show the Mac's notification; what went wrong, a sentence each."""
    if occasion.kind not in wanted.events:
        return []
    problems = []
    if wanted.command:
        problems += _run(wanted.command, occasion, wanted.seconds)
    if wanted.desktop and sys.platform == "darwin":
        problems += _run(mac_command(occasion), occasion, wanted.seconds)
    return problems


def mac_command(occasion: Occasion) -> tuple[str, ...]:
    """The program that shows a notification on a Mac; text is passed as arguments, not as code."""
    script = (
        "on run argv",
        "display notification (item 2 of argv) with title (item 1 of argv)",
        "end run",
    )
    lines = [word for line in script for word in ("-e", line)]
    return ("/usr/bin/osascript", *lines, occasion.title, occasion.message)


def facts(occasion: Occasion) -> dict[str, Any]:
    """What a command gets on its standard input, as JSON."""
    found = {name: value for name, value in asdict(occasion).items() if value is not None}
    return {**found, "title": occasion.title, "host": platform.node()}


def _environment(found: Mapping[str, Any]) -> dict[str, str]:
    names = {"kind": "MLXFT_EVENT"}
    return {names.get(key, f"MLXFT_{key.upper()}"): str(value) for key, value in found.items()}


def _run(command: Sequence[str], occasion: Occasion, seconds: float) -> list[str]:
    """Run a program with the occasion; it and its children are ended after `seconds`.

    Children that outlive it have the rest of the time, and are no failure.
    """
    found = facts(occasion)
    name = command[0]
    said = bytearray()
    try:
        with tempfile.TemporaryFile() as given, _guarded_group() as group:
            given.write(path_json.encode(found))
            given.seek(0)
            process = subprocess.Popen(
                [str(expanded(name)), *command[1:]],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_environment(found)},
                process_group=group,
            )
            reader = threading.Thread(target=_keep, args=(process.stdout, said), daemon=True)
            reader.start()
            was_in_time = _has_ended(process, reader, seconds)
    except (OSError, ValueError) as error:
        return [f"The notification's command {name} can't be run ({error})."]
    process.wait()
    if not was_in_time:
        return [f"The notification's command {name} was ended after {seconds:g} s."]
    if process.returncode == 0:
        return []
    reader.join(1.0)
    words = bytes(said).decode(errors="replace").strip()[:LOG_BYTES]
    reason = f"exit status {process.returncode}" + (f": {words}" if words else "")
    return [f"The notification's command {name} has failed ({reason})."]


def _has_ended(process: subprocess.Popen[bytes], reader: threading.Thread, seconds: float) -> bool:
    """Whether a command ends in time; the rest of the time is its children's, if they print."""
    end = time.monotonic() + seconds
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    reader.join(max(0.0, end - time.monotonic()))
    return True


@contextlib.contextmanager
def _guarded_group() -> Iterator[int]:
    """A process group that is killed after the block, and also if this process is killed.

    Its first process waits for the end of a pipe that only this process holds.
    """
    guard = subprocess.Popen(
        ["/bin/sh", "-c", "read -r _; kill -9 0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        yield guard.pid
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(guard.pid, signal.SIGKILL)
        guard.communicate()


def _keep(output: IO[bytes], kept: bytearray) -> None:
    """Read all of an output, and keep its first bytes."""
    with output:
        while block := os.read(output.fileno(), 1 << 16):
            kept += block[: max(0, KEPT_BYTES - len(kept))]

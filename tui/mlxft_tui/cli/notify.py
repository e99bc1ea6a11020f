"""`mlxft-tui notify`: try out notifications.toml."""

from __future__ import annotations

import os
import sys

from mlxft.errors import MlxftError
from mlxft.storage.paths import notifications_file
from mlxft.watching.notifications import deliver, load
from mlxft.watching.occasions import KINDS, Occasion
from mlxft_tui.terminal.signals import signal_sequence


def notify(event: str) -> int:
    """Notify of something made up. Raises `MlxftError` if nothing is wanted or something fails."""
    file = notifications_file()
    wanted = load(file)
    if not wanted.wants_process and wanted.terminal == "none":
        raise MlxftError(
            f"{file}: no notification is wanted; write command, desktop or terminal into it."
        )
    kind = next((each for each in KINDS if each == event), None)
    if kind is None:
        raise MlxftError(f"--event is {event!r}; it must be of {', '.join(KINDS)}.")
    if kind not in wanted.events:
        raise MlxftError(f"{file}: events leaves {kind} out; choose another --event.")
    occasion = Occasion(
        kind=kind,
        run="example",
        folder=str(file.parent),
        message="This is what a notification looks like.",
        step=100,
        iters=100,
    )
    if sys.stdout.isatty():
        print(
            signal_sequence(wanted.terminal, occasion.title, occasion.message, os.environ), end=""
        )
    problems = deliver(occasion, wanted)
    if problems:
        raise MlxftError(problems[0])
    print(f"Notified as {file} says.")
    return 0

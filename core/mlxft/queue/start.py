"""Starts the supervisor where one is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import IO, Final

from mlxft.errors import EngineError
from mlxft.queue.store import QueueStore
from mlxft.runs import lock

MOST_LOG_BYTES: Final = 1_000_000
"""A longer log is started again."""

AS_ROOT: Final = (
    "The queue runs as root, and so does everything that its runs load; outside a container use an "
    "account of your own."
)


def ensure_supervisor(store: QueueStore) -> bool:
    """Start a supervisor if something waits or trains and none is running; whether one was started.

    Called after every change of the queue. Raises `EngineError` and `StorageError`.
    """
    if lock.is_taken(store.supervisor_lock) or not store.read().has_work:
        return False
    refuse_sudo()
    try:
        with _log(store) as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlxft.queue"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A project's folder may be deleted or unmounted.
                cwd=store.folder,
                start_new_session=True,
            )
    except OSError as error:
        raise EngineError(f"The queue's supervisor can't be started ({error}).") from None
    # Without a wait the ended child stays in the process table.
    threading.Thread(target=process.wait, daemon=True).start()
    return True


def _log(store: QueueStore) -> IO[bytes]:
    """The supervisor's log, opened to append."""
    try:
        is_long = store.log_file.stat().st_size > MOST_LOG_BYTES
    except FileNotFoundError:
        is_long = False
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if is_long else 0)
    return open(os.open(store.log_file, flags, 0o600), "ab")


def refuse_sudo() -> None:
    """Raise `EngineError` under sudo: the runs, and what they load, would be root's."""
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") != "0":
        raise EngineError("The queue doesn't run under sudo; run the command as yourself.")


def root_warning() -> str | None:
    """A sentence if this is root's own queue, as usual in a container; None for other users."""
    return AS_ROOT if os.geteuid() == 0 else None

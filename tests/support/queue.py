"""A queue's supervisor in tests: waited for, killed, and never left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal

from mlxft.queue.entries import Queue
from mlxft.queue.store import QueueStore
from mlxft.runs import lock
from support.project import eventually


def kill_supervisor(store: QueueStore) -> bool:
    """Kill the supervisor, and wait until it is gone; False if none runs."""
    note = lock.holder(store.supervisor_lock)
    if note is None or not note.isdecimal():
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(note), signal.SIGKILL)
    eventually(lambda: lock.holder(store.supervisor_lock) != note)
    return True


def end_queue(store: QueueStore) -> None:
    """Empty the queue and end its supervisor and its engine, even one that is just starting."""
    runs = [each.directory for each in store.read().entries]
    store.change(lambda _: Queue())
    while kill_supervisor(store):
        pass
    for run in runs:
        if process := run.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        # An engine that starts later finds no run, and ends.
        shutil.rmtree(run.path, ignore_errors=True)

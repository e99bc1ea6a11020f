"""The queue's file: replaced whole, by one writer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mlxft.errors import StorageError
from mlxft.queue.entries import Queue
from mlxft.runs import lock
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.paths import state_dir, state_path, writable
from mlxft.storage.regular_files import read_regular
from mlxft.text import path_json

PATIENCE_SECONDS: Final = 30.0
"""How long a change waits for those of other processes, which take milliseconds each."""

_FOLDER: Final = "queue"

_decoder = msgspec.json.Decoder(Queue)

Change = Callable[[Queue], Queue]


@dataclass(frozen=True)
class QueueStore:
    """A folder with the queue, its lock, and the supervisor's lock and log."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "queue.json"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives; its content is a process id."""
        return self.folder / "supervisor.lock"

    @property
    def engine_lock(self) -> Path:
        """Held by an engine that a supervisor has started, before it holds that of its run."""
        return self.folder / "engine.lock"

    @property
    def log_file(self) -> Path:
        """What the supervisor did, and what went wrong with it."""
        return self.folder / "supervisor.log"

    def read(self) -> Queue:
        """The queue as it is now; empty before the first run was added. Raises `StorageError`."""
        try:
            return path_json.decode(read_regular(self.file), _decoder)
        except (FileNotFoundError, NotADirectoryError):
            return Queue()
        except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
            raise StorageError(
                f"{self.file}: the queue can't be read ({error}); repair the file, or move it away "
                "for an empty queue."
            ) from None

    def change(self, change: Change) -> Queue:
        """Replace the queue by what a function makes of it, and return that.

        No other process changes it meanwhile, and a killed one leaves it as it was before or
        after. Raises `StorageError`, and what the function raises, which changes nothing.
        """
        with self.locked():
            before = self.read()
            after = change(before)
            if after != before:
                self._write(after)
        return after

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the queue as it is meanwhile. Raises `StorageError`."""
        path = self.folder / "lock"
        with lock.taken(path, patience=PATIENCE_SECONDS) as got:
            if got is None:
                raise StorageError(
                    f"{path}: another process has held the queue for {PATIENCE_SECONDS:.0f} s; try "
                    "again once it has ended."
                )
            yield

    def _write(self, queue: Queue) -> None:
        try:
            write_atomically(self.file, path_json.encode(queue) + b"\n")
        except OSError as error:
            raise StorageError(
                f"{self.file}: the queue can't be written ({error.strerror}); free disk space or "
                "check the folder's permissions."
            ) from None


def own_store() -> QueueStore:
    """This user's queue. Raises `StorageError`.

    Machines that share a home folder share it, since a machine's name may change with its network;
    its runs train where its supervisor was started.
    """
    return QueueStore(writable(state_dir() / _FOLDER, "MLXFT_STATE"))


def current_queue() -> Queue:
    """This user's queue as it is now, also where it can't be changed. Raises `StorageError`."""
    return QueueStore(state_path() / _FOLDER).read()

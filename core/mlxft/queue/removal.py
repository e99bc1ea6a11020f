"""Takes a run out of the queue, with the folder that was made for it."""

from __future__ import annotations

import shutil

from mlxft.queue import entries
from mlxft.queue.entries import Entry
from mlxft.queue.store import QueueStore


def remove(store: QueueStore, entry: Entry) -> None:
    """Remove a waiting entry; a run that has trained before stays, as a stopped one.

    Raises `RunError` if it doesn't wait any more, and `StorageError`.
    """
    store.change(lambda queue: entries.removed(queue, entry.id))
    if not entry.directory.recipe_file.exists():
        # What can't be deleted is no run, so nothing shows it.
        shutil.rmtree(entry.directory.path, ignore_errors=True)

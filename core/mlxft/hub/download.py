"""Downloads a model into the hub's cache: all of it, checked, or nothing that could be used.

Files arrive in the cache's ``blobs`` under a name of their own and are checked there. Only when all
are complete does a snapshot lead to them, so neither mlx-lm nor this program ever sees a part.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlxft.errors import ModelError, StorageError
from mlxft.hub.access import require_hub
from mlxft.hub.checked_file import CheckedFile, DownloadCancelledError
from mlxft.hub.local_models import PARTIAL, missing_files
from mlxft.hub.remote import RemoteFile, RemoteModel, remote_model
from mlxft.memory.local_config import hub_cache, snapshot_of
from mlxft.runs.events import ProgressMade
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.space import free_space
from mlxft.text import figures

CONNECTIONS: Final = 4
"""Files that are downloaded at once."""

REPORT_SECONDS: Final = 0.25
POLL_SECONDS: Final = 0.5
"""How often a download that waits for another of the same model looks whether it has ended."""

SPARE_BYTES: Final = 500_000_000
"""What a download leaves free on the disk."""

OnProgress = Callable[[ProgressMade], object]


def download(name: str, on_progress: OnProgress, cancelled: threading.Event | None = None) -> Path:
    """The folder of a hub model, as new as on the hub if that can be reached.

    Another download of the same model is waited for. Raises `ModelError` or `StorageError`, and
    `DownloadCancelledError` once `cancelled` is set; what has arrived is kept for the next time.
    """
    cancelled = cancelled or threading.Event()
    try:
        require_hub(name)
        model = remote_model(name)
        _refuse_unusable(model)
    except ModelError:
        if (there := snapshot_of(name)) and not missing_files(there):
            return there
        raise
    store = _Store(hub_cache(), model)
    if not store.is_complete:
        try:
            with _alone(store, on_progress, cancelled):
                _fetch(store, on_progress, cancelled)
                store.publish()
        except OSError as error:
            raise StorageError(
                f"{store.folder}: the hub's cache can't be written ({error.strerror or error}); "
                "free disk space, or move it with HF_HOME."
            ) from None
    return store.snapshot


def _refuse_unusable(model: RemoteModel) -> None:
    paths = {each.path for each in model.files}
    if "config.json" not in paths or not any(each.endswith(".safetensors") for each in paths):
        raise ModelError(
            f"{model.name}: this repository holds no model as config.json and model*.safetensors; "
            "choose one that does, such as those of mlx-community."
        )


class _Store:
    """A model's folder in the hub's cache, in huggingface_hub's own layout."""

    def __init__(self, cache: Path, model: RemoteModel) -> None:
        self.model = model
        self.cache = cache
        self.folder = cache / f"models--{model.name.replace('/', '--')}"
        self.blobs = self.folder / "blobs"
        self.snapshot = self.folder / "snapshots" / model.revision
        self.lock = cache / ".locks" / self.folder.name / "mlxft.lock"

    def blob(self, file: RemoteFile) -> Path:
        return self.blobs / file.etag

    def partial(self, file: RemoteFile) -> Path:
        return self.blobs / f"{file.etag}{PARTIAL}"

    @property
    def is_complete(self) -> bool:
        """Whether the snapshot has all files in their announced size."""
        return all(_size(self.snapshot / each.path) == each.size for each in self.model.files)

    @property
    def missing(self) -> list[RemoteFile]:
        """The files to download, each content once; a blob of another size is a damaged one."""
        wanted = {each.etag: each for each in self.model.files}.values()
        return [each for each in wanted if _size(self.blob(each)) != each.size]

    def publish(self) -> None:
        """Let the snapshot lead to the blobs: a new one at once, config.json last in another."""
        if self.snapshot.is_dir():
            for each in sorted(self.model.files, key=lambda each: each.path == "config.json"):
                self._link(each, self.snapshot)
        else:
            new = self.folder / f"{self.model.revision}.new"
            shutil.rmtree(new, ignore_errors=True)
            for each in self.model.files:
                # Links are relative to where the folder will be.
                self._link(each, new, self.snapshot)
            self.snapshot.parent.mkdir(parents=True, exist_ok=True)
            new.rename(self.snapshot)
        refs = self.folder / "refs"
        refs.mkdir(exist_ok=True)
        write_atomically(refs / "main", self.model.revision.encode(), 0o644)

    def _link(self, file: RemoteFile, folder: Path, final: Path | None = None) -> None:
        link, place = folder / file.path, (final or folder) / file.path
        if _size(link) == file.size:
            return
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(os.path.relpath(self.blob(file), place.parent))
        except OSError:  # A disk without links.
            temporary = link.with_name(f".{link.name}.new")
            shutil.copyfile(self.blob(file), temporary)
            temporary.replace(link)


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


@contextmanager
def _alone(store: _Store, on_progress: OnProgress, cancelled: threading.Event) -> Iterator[None]:
    """Wait until no other process downloads this model; the lock ends with its process."""
    store.lock.parent.mkdir(parents=True, exist_ok=True)
    store.blobs.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(store.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not _locked(descriptor):
            on_progress(ProgressMade(stage="waiting", done=0, note=store.model.name))
            if cancelled.wait(POLL_SECONDS):
                raise DownloadCancelledError
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # A file system without locks.
    return True


def _fetch(store: _Store, on_progress: OnProgress, cancelled: threading.Event) -> None:
    """Download and check all missing files, several at once."""
    missing = store.missing
    if not missing:
        return
    _refuse_full(store, missing)
    arrived = _Arrived()
    stop = threading.Event()

    # The largest first, so that none is left alone at the end.
    files = [
        CheckedFile(store.model, each, store.partial(each), stop, arrived.add)
        for each in sorted(missing, key=lambda each: -each.size)
    ]

    def one(file: CheckedFile) -> None:
        file.fetch()
        file.partial.replace(store.blob(file.remote))

    def report() -> None:
        on_progress(ProgressMade(stage="downloading", done=arrived.total, total=total, note=name))

    total, name = sum(each.size for each in missing), store.model.name
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="download") as pool:
        tasks: Set[Future[None]] = {pool.submit(one, each) for each in files}
        try:
            while tasks and not cancelled.is_set():
                done, tasks = wait(tasks, REPORT_SECONDS, FIRST_EXCEPTION)
                report()
                for task in done:
                    task.result()
        finally:
            stop.set()
            for task in tasks:
                task.cancel()
            for file in files:
                file.abort()
    if tasks:
        raise DownloadCancelledError


class _Arrived:
    """Counts the bytes of several threads."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self.total += size


def _refuse_full(store: _Store, missing: Sequence[RemoteFile]) -> None:
    """Raise `StorageError` unless the disk has space for what is missing and a little more."""
    needed = sum(each.size - (_size(store.partial(each)) or 0) for each in missing)
    free = free_space(store.cache)
    if free is not None and needed + SPARE_BYTES > free:
        raise StorageError(
            f"{store.model.name}: the download needs {figures.size(needed)} and the disk of "
            f"{figures.short_path(store.cache)} has {figures.size(free)} free; free some, or move "
            "the hub's cache with HF_HOME."
        )

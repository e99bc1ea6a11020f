"""The append-only journal of a run: one writer, any number of readers."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from mlxft.errors import FailureCause, StorageError
from mlxft.runs.events import (
    STATE_CHANGES,
    AnyEvent,
    CheckpointSaved,
    LearningRateChanged,
    RunFailed,
    RunFinished,
    RunStarted,
    decode,
    encode,
)
from mlxft.runs.lock import is_at
from mlxft.storage.regular_files import open_regular

BATCH_BYTES = 1024 * 1024
"""Bytes read at once."""

RESERVE_NAME = "events.reserve"
RESERVE_BYTES = 16 * 1024
"""Bytes reserved beside a journal while it is written, freed for its last event on a full disk."""

HEAD_BYTES = 256
"""Bytes that identify a journal: its first event has a time."""

E = TypeVar("E", bound=AnyEvent)


class EarlierSessions:
    """What the journal says of earlier sessions that a checkpoint may not say."""

    def __init__(self) -> None:
        self.seq = 0
        self.rate_changes: list[LearningRateChanged] = []
        """The manual changes of the learning rate, without those that a resume has undone."""
        self.failure: FailureCause | None = None
        """Why the last session failed, if it did."""
        self._checkpoints: set[tuple[int, bool]] = set()

    def add(self, events: Sequence[AnyEvent]) -> None:
        """Read on."""
        for event in events:
            match event:
                case CheckpointSaved():
                    self._checkpoints.add((event.step, event.best))
                case LearningRateChanged():
                    self.rate_changes.append(event)
                case RunFailed():
                    self.failure = event.cause
                case RunStarted(start_step=start):
                    self.failure = None
                    self.rate_changes = [each for each in self.rate_changes if each.step <= start]
            self.seq = event.seq

    def has_checkpoint(self, saved: CheckpointSaved) -> bool:
        """Whether this event was written."""
        return (saved.step, saved.best) in self._checkpoints


def last_seq(path: Path) -> int:
    """The number of a journal's last event; 0 where there is none."""
    seq = 0
    for events in JournalReader(path).batches():
        seq = events[-1].seq
    return seq


class JournalWriter:
    """Appends events, each in a single write, numbered and timed; thread-safe.

    A torn last line, left by a killed writer or a full disk, is terminated first so that it spoils
    nothing after it. Disk space is reserved for the last event, which reports a full disk. Raises
    `StorageError` if the file can't be opened.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._path = path
        tail = JournalReader(path)
        self.earlier = EarlierSessions()
        """What was read before this writer was opened."""
        for events in tail.batches():
            self.earlier.add(events)
        # A line that lacks nothing but its end counts once that is written.
        if (cut := decode(tail.partial_line)) is not None:
            self.earlier.add([cut])
        self._seq = self.earlier.seq
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise StorageError(
                f"{path}: the journal can't be written ({error.strerror}); check that it is a "
                "file you may write."
            ) from None
        self._torn = bool(tail.partial_line)
        self._reserve = path.with_name(RESERVE_NAME)
        with contextlib.suppress(OSError):
            self._reserve.write_bytes(os.urandom(RESERVE_BYTES))

    def append(self, event: AnyEvent) -> AnyEvent:
        """Write the event and return it as written. Raises `StorageError` on a full disk."""
        with self._lock:
            self._seq += 1
            written = msgspec.structs.replace(event, seq=self._seq, time=self._clock())
            try:
                self._write(written)
            except OSError as error:
                if not isinstance(event, (RunFinished, RunFailed)) or not self._free_reserve():
                    raise self._unwritable(error) from None
                try:
                    self._write(written)
                except OSError:
                    raise self._unwritable(error) from None
        return written

    def _write(self, event: AnyEvent) -> None:
        line = (b"\n" if self._torn else b"") + encode(event) + b"\n"
        self._torn = os.write(self._file, line) != len(line)
        if self._torn:
            raise OSError("the line was cut")
        if isinstance(event, STATE_CHANGES):
            os.fsync(self._file)

    def _free_reserve(self) -> bool:
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path}: the journal can't be written ({error}); free disk space."
        )

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file, so that readers see new events."""
        return is_at(self._file, self._path)

    def close(self) -> None:
        """Release the file; the journal stays."""
        os.close(self._file)
        self._free_reserve()


class JournalReader:
    """Reads what was appended since the last call; a partial last line waits for the rest of it.

    A journal that was truncated or replaced is read from its beginning.
    """

    def __init__(self, path: Path, offset: int = 0, head: bytes = b"") -> None:
        """`offset` and `head` are an earlier reader's `position`, to read on from there."""
        self._path = path
        self._offset = offset
        self._head = head
        """The first bytes of the journal read so far."""
        self.partial_line = b""
        """What follows the last whole line."""

    @property
    def position(self) -> tuple[int, bytes]:
        """How far the journal was read, in bytes, and its first bytes."""
        return self._offset, self._head

    def restarted(self) -> bool:
        """Whether the journal was truncated or replaced; then it is read from its beginning."""
        try:
            with open_regular(self._path) as file:
                head = file.read(HEAD_BYTES)
                size = file.seek(0, os.SEEK_END)
        except OSError:
            return False
        replaced = size < self._offset or not head.startswith(self._head)
        if replaced:
            self._offset, self._head = 0, b""
        return replaced

    def read(self) -> list[AnyEvent]:
        """New events in order; empty if there are none or the journal can't be read."""
        return [event for batch in self.batches() for event in batch]

    def batches(self) -> Iterator[list[AnyEvent]]:
        """New events in non-empty batches, so that a long journal needs little memory."""
        for lines in self.lines():
            decoded = (decode(line) for line in lines)
            if events := [event for event in decoded if event is not None]:
                yield events

    def lines(self) -> Iterator[list[bytes]]:
        """New whole lines in batches, for readers that decode only some of them."""
        self.restarted()
        try:
            with open_regular(self._path) as file:
                file.seek(self._offset)
                while data := file.read(BATCH_BYTES):
                    yield self._lines(data + file.readline())
                    if self.partial_line:
                        return
        except OSError:
            return

    def _lines(self, data: bytes) -> list[bytes]:
        whole, newline, rest = data.rpartition(b"\n")
        self._head = self._head or whole[:HEAD_BYTES]
        self.partial_line = rest
        self._offset += len(whole) + len(newline)
        return [line for line in whole.split(b"\n") if line]

"""The queue as data, and every change of it as a pure function."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from mlxft.errors import RunError
from mlxft.runs.directory import RunDirectory

EntryState = Literal["waiting", "held", "running", "finished", "stopped", "failed", "lost"]
Ending = Literal["finished", "stopped", "failed", "lost"]

KEPT_ENDED: Final = 200
"""Ended entries that are kept, with what became of them."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the queue. Its number is never used again; times are seconds since 1970."""

    id: int
    run: str
    """The run's folder."""
    state: EntryState = "waiting"
    added: float = 0.0
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    """How it ended, as a sentence."""
    urgent: bool = False
    """Whether it should start now: the entry that trains makes way for it."""
    yields: bool = False
    """Whether it was stopped to make way, and waits again once it has saved."""
    after_seq: int = 0
    """The last event of the run's journal before the queue started it."""
    launches: int = 0
    """Engines started since then."""
    crashes: int = 0
    """Crashes since the last new checkpoint, after which the run was resumed."""
    saved_step: int = 0
    """The step of that checkpoint."""
    memory_limit: int | None = None
    """Bytes that MLX should stay below, after a crash for lack of memory."""

    until: int | None = None
    """The step after which it is stopped, saved; None for its last."""
    sweep: str | None = None
    """The file of the sweep that decides whether it continues then."""

    @property
    def directory(self) -> RunDirectory:
        """The run's directory."""
        return RunDirectory(Path(self.run))


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The runs that wait, the one that trains, and the latest that have ended."""

    next_id: int = 1
    held: bool = False
    """Whether no run starts, whatever waits."""
    waiting: tuple[Entry, ...] = ()
    """In the order in which they start; held ones are passed over."""
    running: Entry | None = None
    ended: tuple[Entry, ...] = ()
    """The oldest first."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The running entry, then those that wait."""
        return (*(() if self.running is None else (self.running,)), *self.waiting)

    @property
    def held_by_run(self) -> dict[Path, bool]:
        """The folders of the runs that wait, with whether each is held."""
        return {each.directory.path: each.state == "held" for each in self.waiting}

    @property
    def startable(self) -> Entry | None:
        """The entry that starts next; None if there is none, or the queue is held."""
        for entry in self.waiting:
            if entry.urgent or (entry.state == "waiting" and not self.held):
                return entry
        return None

    @property
    def has_work(self) -> bool:
        """Whether a supervisor is needed."""
        return self.running is not None or self.startable is not None


# Changes that people request


def added(
    queue: Queue,
    run: RunDirectory,
    *,
    now: float,
    until: int | None = None,
    sweep: str | None = None,
) -> Queue:
    """With a run at the end, which may train only until a step of its sweep."""
    entry = Entry(id=queue.next_id, run=str(run.path), added=now, until=until, sweep=sweep)
    return replace(queue, next_id=queue.next_id + 1, waiting=(*queue.waiting, entry))


def adopted(queue: Queue, run: RunDirectory, *, after_seq: int, now: float) -> Queue:
    """With a run first that trains already, unless the queue has it.

    `after_seq` is the last event of its journal before it was started.
    """
    if any(each.run == str(run.path) for each in queue.entries):
        return queue
    queue = added(queue, run, now=now)
    entry = replace(queue.waiting[-1], urgent=True, after_seq=after_seq)
    return replace(queue, waiting=(entry, *queue.waiting[:-1]))


def moved(queue: Queue, number: int, place: int) -> Queue:
    """With a waiting entry at another place, counted from 1; a place beyond the end is the last.

    Raises `RunError`.
    """
    entry = _waiting(queue, number)
    others = [each for each in queue.waiting if each is not entry]
    at = max(0, min(place - 1, len(others)))
    return replace(queue, waiting=(*others[:at], entry, *others[at:]))


def held(queue: Queue, numbers: Iterable[int]) -> Queue:
    """With these entries passed over until they are released; without any the whole queue.

    Raises `RunError`.
    """
    numbers = list(numbers)
    for number in numbers:
        queue = _replaced(queue, replace(_waiting(queue, number), state="held", urgent=False))
    return queue if numbers else replace(queue, held=True)


def released(queue: Queue, numbers: Iterable[int]) -> Queue:
    """With these entries no longer held; without any the whole queue. Raises `RunError`."""
    numbers = list(numbers)
    for number in numbers:
        queue = _replaced(queue, replace(_waiting(queue, number), state="waiting"))
    return queue if numbers else replace(queue, held=False)


def removed(queue: Queue, number: int) -> Queue:
    """Without a waiting entry. Raises `RunError`."""
    entry = _waiting(queue, number)
    return replace(queue, waiting=tuple(each for each in queue.waiting if each is not entry))


def urgent(queue: Queue, number: int) -> Queue:
    """With an entry first, to be started at once, also where the queue is held.

    Raises `RunError`.
    """
    entry = replace(_waiting(queue, number), state="waiting", urgent=True)
    return moved(_replaced(queue, entry), number, 1)


def find(queue: Queue, name: str) -> Entry:
    """The entry of this number, or of the run of this name or folder. Raises `RunError`."""
    for entry in (*queue.entries, *reversed(queue.ended)):
        if name in (str(entry.id), entry.directory.name, entry.run):
            return entry
    raise RunError(f"{name}: no such entry in the queue; mlxft-tui queue list shows its numbers.")


# Changes that the supervisor makes


def starting(queue: Queue, number: int, *, after_seq: int, now: float) -> Queue:
    """With a waiting entry as the one that trains. Raises `RunError`."""
    entry = _waiting(queue, number)
    begun = replace(
        entry,
        state="running",
        urgent=False,
        yields=False,
        started=now,
        after_seq=after_seq,
        launches=0,
    )
    return replace(removed(queue, number), running=begun)


def launched(queue: Queue) -> Queue:
    """With one more engine started for the running entry."""
    running = queue.running
    if running is None:
        return queue
    return replace(queue, running=replace(running, launches=running.launches + 1))


def resumed(
    queue: Queue, *, after_seq: int, crashes: int, saved_step: int, memory_limit: int | None
) -> Queue:
    """With the running entry to be started again after a crash."""
    running = queue.running
    if running is None:
        return queue
    again = replace(
        running,
        after_seq=after_seq,
        launches=0,
        crashes=crashes,
        saved_step=saved_step,
        memory_limit=memory_limit,
    )
    return replace(queue, running=again)


def making_way(queue: Queue) -> Queue:
    """With the running entry marked to wait again once it has saved."""
    running = queue.running
    return queue if running is None else replace(queue, running=replace(running, yields=True))


def put_back(queue: Queue) -> Queue:
    """With the running entry waiting again, behind those that are urgent."""
    running = queue.running
    if running is None:
        return queue
    entry = replace(running, state="waiting", started=None, yields=False)
    at = sum(each.urgent for each in queue.waiting)
    waiting = (*queue.waiting[:at], entry, *queue.waiting[at:])
    return replace(queue, running=None, waiting=waiting)


def ended(queue: Queue, ending: Ending, reason: str, *, now: float) -> Queue:
    """With the running entry ended, and the reason kept."""
    running = queue.running
    if running is None:
        return queue
    entry = replace(running, state=ending, reason=reason, ended=now)
    return replace(queue, running=None, ended=(*queue.ended, entry)[-KEPT_ENDED:])


def _waiting(queue: Queue, number: int) -> Entry:
    for entry in queue.waiting:
        if entry.id == number:
            return entry
    if queue.running is not None and queue.running.id == number:
        name = queue.running.directory.name
        raise RunError(f"{name} is training; stop it with mlxft-tui queue stop first.")
    raise RunError(f"{number}: no such run waits in the queue; mlxft-tui queue list shows them.")


def _replaced(queue: Queue, entry: Entry) -> Queue:
    waiting = tuple(entry if each.id == entry.id else each for each in queue.waiting)
    return replace(queue, waiting=waiting)

"""Starts one queued run after the other, in a process that ends when nothing waits."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from mlxft.engine import address
from mlxft.engine.failure import record
from mlxft.engine.launch import launch_training
from mlxft.engine.machine import refuse_if_training
from mlxft.engine.protocol import Stop
from mlxft.errors import EngineError, MlxftError, RecipeError, RunError
from mlxft.queue import entries
from mlxft.queue.entries import Ending, Entry, Queue
from mlxft.queue.rounds import confirm_round
from mlxft.queue.searching import draw_next, end_search
from mlxft.queue.sessions import Sessions, sessions_after
from mlxft.queue.store import QueueStore
from mlxft.queue.sweeps import continued
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import RunFailed
from mlxft.runs.journal import last_seq

POLL_SECONDS: Final = 0.5
"""Time between two checks of the queue and of the run that trains."""

RETRY_SECONDS: Final = 10.0
"""Time after an error, as of a full disk, before the next attempt."""

MOST_CRASHES: Final = 3
"""Crashes without a new checkpoint, of which the last ends a run."""

MOST_LAUNCHES: Final = 10
"""Attempts to start an engine that its supervisor hasn't survived."""


def supervise(store: QueueStore) -> bool:
    """Work through the queue until nothing can start; False if another process already does.

    Raises `StorageError` if the queue's folder can't be written.
    """
    with (
        ExitStack() as unchanged,
        lock.taken(store.supervisor_lock, str(os.getpid())) as held,
    ):
        if held is None:
            return False
        supervisor = Supervisor(store)
        while held.is_in_place():
            if supervisor.proceed():
                time.sleep(supervisor.pause)
                continue
            # The supervisor's lock is released before the queue's: whoever adds a run next finds
            # no supervisor, and starts one.
            unchanged.enter_context(store.locked())
            if not store.read().has_work:
                break
            unchanged.close()
    return True


class Supervisor:
    """Follows the run that trains and starts the next. All it knows is in the queue's file."""

    def __init__(
        self,
        store: QueueStore,
        launch: Callable[[Entry, int], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._launch = launch or _launch
        self._clock = clock
        self._said = ""
        self.pause = POLL_SECONDS
        """Seconds until it should proceed."""

    def proceed(self) -> bool:
        """Do what is due now; False where there is nothing to do. Never raises an `Exception`."""
        self.pause = POLL_SECONDS
        try:
            return self._proceed()
        except MlxftError as error:
            self._say(str(error))
        except Exception as error:
            record(error, self._store.log_file)
        self.pause = RETRY_SECONDS
        return True

    def _proceed(self) -> bool:
        queue = self._store.read()
        if queue.running is not None:
            self._follow(queue, queue.running)
        elif queue.startable is not None:
            self._start(queue.startable)
        else:
            return False
        return True

    # The next run

    def _start(self, entry: Entry) -> None:
        directory = entry.directory
        # Whoever has started a run that resumes by itself leaves it to the queue.
        is_live = directory.is_live()
        try:
            if not is_live:
                refuse_if_training(directory.path.parent)
        except RunError as busy:
            self._say(f"{directory.name} waits: {busy}")
            return
        seq = entry.after_seq if is_live else last_seq(directory.journal_file)

        def started(queue: Queue) -> Queue:
            # It may have been held, moved or removed meanwhile.
            if queue.running is not None or queue.startable != entry:
                return queue
            return entries.starting(queue, entry.id, after_seq=seq, now=self._clock())

        queue = self._store.change(started)
        if not is_live and queue.running is not None and queue.running.id == entry.id:
            self._start_engine(queue.running)

    def _start_engine(self, entry: Entry) -> None:
        """Start an engine on the running entry, unless one is starting or ending."""
        directory = entry.directory
        with lock.taken(self._store.engine_lock) as held:
            if held is None:
                return
            self._store.change(entries.launched)
            self._say(f"starting {directory.path}")
            try:
                directory.leave_queue()
                self._launch(entry, held.descriptor)
            except MlxftError as error:
                self._take_refusal(entry, error)

    def _take_refusal(self, entry: Entry, error: MlxftError) -> None:
        """An engine hasn't started: end the entry, unless its journal knows more."""
        directory = entry.directory
        if directory.is_live() or sessions_after(directory, entry.after_seq).ending:
            return
        if isinstance(error, RunError) and error.cause == "machine_busy":
            self._store.change(entries.put_back)
        else:
            self._end(entry, "failed", str(error))

    # The run that trains

    def _follow(self, queue: Queue, entry: Entry) -> None:
        directory = entry.directory
        if directory.is_live():
            if any(each.urgent for each in queue.waiting):
                self._stop_for_another(entry)
            return
        if lock.is_taken(self._store.engine_lock):
            return  # An engine is starting or ending.
        if not directory.path.is_dir():
            self._end(entry, "failed", f"{directory.path}: the run's folder was deleted.")
            return
        found = sessions_after(directory, entry.after_seq)
        if found.has_crashed and (crashes := self._crashes(entry, found)) < MOST_CRASHES:
            self._resume(entry, found, crashes)
        elif found.ending is not None:
            self._take_ending(entry, found)
        elif not found.started and entry.launches < MOST_LAUNCHES:
            self._start_engine(entry)
        else:
            died = f"The engine died at step {found.step} without reporting an error."
            self._end(entry, "lost", died)

    def _crashes(self, entry: Entry, found: Sessions) -> int:
        """With this one, the crashes since the last new checkpoint; too many if nobody should
        resume the run."""
        try:
            is_resumed = entry.directory.recipe().resume == "automatic"
        except RecipeError:
            is_resumed = False
        if not is_resumed:
            return MOST_CRASHES
        return 1 if found.saved_step > entry.saved_step else entry.crashes + 1

    def _resume(self, entry: Entry, found: Sessions, crashes: int) -> None:
        """Start an engine again from the last checkpoint."""
        limit = found.next_memory_limit(entry.memory_limit)
        self._say(f"{entry.directory.name} crashed at step {found.step}; it is resumed ({crashes})")
        queue = self._store.change(
            lambda queue: entries.resumed(
                queue,
                after_seq=found.last_seq,
                crashes=crashes,
                saved_step=found.saved_step,
                memory_limit=limit,
            )
        )
        if queue.running is not None:
            self._start_engine(queue.running)

    def _take_ending(self, entry: Entry, found: Sessions) -> None:
        ending = found.ending
        assert ending is not None
        if isinstance(ending, RunFailed):
            if ending.cause == "machine_busy":
                self._store.change(entries.put_back)
            else:
                self._end(entry, "failed", ending.message)
        elif ending.reason == "stopped" and ending.step == entry.until:
            self._end(entry, "stopped", f"Reached step {ending.step}; its sweep decides further.")
        elif ending.reason != "stopped":
            self._end(entry, "finished", f"Trained {ending.step} steps.")
        elif entry.yields:
            self._store.change(entries.put_back)
        else:
            self._end(entry, "stopped", f"Stopped at step {ending.step}, saved.")

    def _stop_for_another(self, entry: Entry) -> None:
        """Have the run save and end; it continues after the urgent one."""
        if not entry.yields:
            self._store.change(entries.making_way)
            self._say(f"{entry.directory.name} makes way")
        try:
            asyncio.run(_stop(entry.directory))
        except EngineError as error:
            self._say(str(error))

    def _end(self, entry: Entry, ending: Ending, reason: str) -> None:
        """End the running entry; its sweep may have another run then."""
        now, sweep = self._clock(), Path(entry.sweep) if entry.sweep else None
        if sweep is not None:
            self._draw_next(sweep)

        def change(queue: Queue) -> Queue:
            queue = entries.ended(queue, ending, reason, now=now)
            try:
                return queue if sweep is None else continued(queue, sweep, now, after=entry.run)
            except RunError as error:  # Its record is gone; what is queued still trains.
                self._say(str(error))
                return queue

        self._store.change(change)
        if sweep is not None:
            with suppress(RunError):
                confirm_round(sweep)
        self._say(f"{ending}: {reason}")

    def _draw_next(self, sweep: Path) -> None:
        """Record a search's next point, before the queue changes; without one the search ends."""
        try:
            draw_next(sweep)
        except Exception as error:  # Also what Optuna raises: other runs wait.
            self._say(f"{sweep}: no more points are drawn: {error}")
            if not isinstance(error, MlxftError):
                record(error, self._store.log_file)
            with suppress(MlxftError):
                end_search(sweep, f"Its next point can't be drawn: {error}")

    def _say(self, text: str) -> None:
        """A line in the log, unless it was the last one."""
        if text != self._said:
            self._said = text
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._clock()))
            print(stamp, text, flush=True)


def _launch(entry: Entry, kept: int) -> None:
    """Start an engine that keeps a descriptor open."""
    launch_training(entry.directory, kept, memory_limit=entry.memory_limit, until=entry.until)


async def _stop(directory: RunDirectory) -> None:
    client = await address.connect(directory)
    try:
        await client.send(Stop())
    finally:
        await client.close()

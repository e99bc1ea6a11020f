"""Puts the next round of a sweep on the queue when the last run of a round has ended."""

from __future__ import annotations

from pathlib import Path

from mlxft.queue import entries
from mlxft.queue.entries import Queue
from mlxft.runs.directory import RunDirectory
from mlxft.sweep.halving import (
    loss_after,
    losses_after,
    next_round,
    with_queued_round,
    with_round,
)
from mlxft.sweep.record import SweepRecord, read_record, write_record


def with_next_round(queue: Queue, file: Path, now: float) -> Queue:
    """A queue in which a run of a sweep has just ended, with the next round if it was the last.

    `file` is the sweep's record. A round is decided once and recorded before the queue has it, so a
    supervisor that is killed in between decides nothing again. Raises `RunError` and
    `StorageError`.
    """
    record = read_record(file)
    if record.rounds[-1].is_queued:
        if any(each.sweep == str(file) for each in queue.entries):
            return queue
        following = next_round(record, losses_after(_adapters(file), record))
        if following is None:
            return queue
        record = with_round(record, following)
        write_record(file, record)
    return _with_round(queue, file, record, now)


def confirm_round(file: Path) -> None:
    """Record that the queue has the last round. Raises `RunError` and `StorageError`."""
    record = read_record(file)
    if record.rounds and not record.rounds[-1].is_queued:
        write_record(file, with_queued_round(record))


def _with_round(queue: Queue, file: Path, record: SweepRecord, now: float) -> Queue:
    """With the runs of the last round that are not on the queue and have not come to its end."""
    last = record.rounds[-1]
    until = None if last.until == record.iters else last.until
    known = {each.run for each in queue.entries}
    for point in record.points:
        if point.number not in last.points or point.run is None:
            continue
        run = RunDirectory(_adapters(file) / point.run)
        if str(run.path) not in known and loss_after(run, last.until) is None:
            queue = entries.added(queue, run, now=now, until=until, sweep=str(file))
    return queue


def _adapters(file: Path) -> Path:
    """The adapters folder of the project that a sweep's record is in."""
    return (file.parent.parent / "adapters").resolve()

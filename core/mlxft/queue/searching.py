"""Draws the next point of a search when the run of the last one has ended.

A point is in the sweep's file before it has a run, and its run is there before the queue has it.
Whoever asks again after a kill in between finds what was decided and continues with that.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from mlxft.errors import RecipeError, RunError
from mlxft.queue import entries
from mlxft.queue.entries import Queue
from mlxft.recipe import Recipe
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import RunFailed, RunFinished
from mlxft.runs.followed import read_run
from mlxft.runs.new_run import new_run
from mlxft.runs.view import RunView
from mlxft.sweep.fit import Estimate, estimates, refusal
from mlxft.sweep.plan import Search, point
from mlxft.sweep.record import (
    RecordedPoint,
    SweepRecord,
    read_record,
    recorded_point,
    run_of,
    write_record,
)
from mlxft.sweep.search import Tried, next_values
from mlxft.sweep.space import space_of

MOST_SKIPPED: Final = 50
"""Points in a row that don't fit before the search gives up."""

PATIENCE_SECONDS: Final = 60.0
"""How long one process waits for another that draws a point."""

SECONDS_PER_HOUR: Final = 3600


def with_next_point(queue: Queue, file: Path, now: float, *, after: str = "") -> Queue:
    """A queue with the run of the last point that was drawn, unless it is there or has begun.

    `file` is the sweep's record, `after` the run that has ended. Raises `RunError`.
    """
    run = _last_run(file, read_record(file))
    if run is None or str(run.path) == after or not run.queued_recipe_file.is_file():
        return queue
    if any(each.run == str(run.path) for each in queue.entries):
        return queue
    return entries.added(queue, run, now=now, sweep=str(file))


def draw_next(file: Path) -> SweepRecord:
    """Record the next point of a search, with its run, unless the last one has yet to end.

    Imports Optuna and reads the journals of the search: not for a process that holds the queue.
    Raises an `MlxftError`.
    """
    with lock.taken(file.with_suffix(".lock"), patience=PATIENCE_SECONDS) as got:
        if got is None:
            raise RunError(f"{file}: another process draws a point of this sweep; try again.")
        record = read_record(file)
        if not record.draws or record.ended or _is_waiting(file, record):
            return record
        if not record.points or record.points[-1].skipped or record.points[-1].run is not None:
            record = _drawn(file, record)
        return _with_run(file, record)


def end_search(file: Path, reason: str) -> None:
    """Record why a search draws no more points. Raises `RunError` and `StorageError`."""
    write_record(file, replace(read_record(file), ended=reason))


def _base(record: SweepRecord) -> Recipe:
    assert record.recipe is not None
    return record.recipe


def _is_waiting(file: Path, record: SweepRecord) -> bool:
    """Whether the last point has a run that hasn't begun, or trains."""
    run = _last_run(file, record)
    return run is not None and (run.queued_recipe_file.is_file() or run.is_live())


def _last_run(file: Path, record: SweepRecord) -> RunDirectory | None:
    name = record.points[-1].run if record.points else None
    return RunDirectory(_adapters(file) / name) if name else None


def _drawn(file: Path, record: SweepRecord) -> SweepRecord:
    """With one more point to train and those before it that don't fit, or with why not."""
    search, project = record.search, file.parent.parent
    assert search is not None
    base, views = _base(record), _views(file, record)
    # Before the first run a record is taken to be as long as its bytes.
    counted = [view.data.longest for view in views.values() if view.data and view.data.longest]
    estimate = estimates(project, max(counted, default=record.longest))
    ended = _spent(search, record, views)
    for _ in range(MOST_SKIPPED):
        if ended:
            break
        tried = [_tried(each, views.get(each.number)) for each in record.points]
        values = next_values(space_of(record.space), search, tried)
        if values is None:
            ended = "All of its space was tried."
            break
        made = _point(record, values, base, estimate)
        record = replace(record, points=(*record.points, made))
        if not made.skipped:
            write_record(file, record)
            return record
    record = replace(record, ended=ended or f"{MOST_SKIPPED} points in a row did not fit.")
    write_record(file, record)
    return record


def _point(
    record: SweepRecord, values: dict[str, object], base: Recipe, estimate: Estimate
) -> RecordedPoint:
    """The next point; skipped if it won't fit, or its values can't be together."""
    number = len(record.points) + 1
    try:
        made = point(record.name, number, values, base)
    except RecipeError as error:
        return RecordedPoint(number=number, values=values, skipped=str(error))
    return recorded_point(made, refusal(estimate(made.recipe)))


def _with_run(file: Path, record: SweepRecord) -> SweepRecord:
    """With a run for the last point, if it is to be trained and has none."""
    last = record.points[-1] if record.points else None
    if last is None or last.skipped or last.run is not None or record.ended:
        return record
    run = run_of(_adapters(file), record, last.number)
    if run is None:
        made = point(record.name, last.number, last.values, _base(record))
        run = new_run(file.parent.parent, made.recipe, queued=True)
    record = record.with_run(last.number, run.name)
    write_record(file, record)
    return record


# What became of the earlier points


def _views(file: Path, record: SweepRecord) -> dict[int, RunView]:
    """The runs of the points that have begun, by number."""
    runs = {
        each.number: RunDirectory(_adapters(file) / each.run) for each in record.points if each.run
    }
    return {number: read_run(run).view for number, run in runs.items() if run.recipe_file.is_file()}


def _tried(found: RecordedPoint, view: RunView | None) -> Tried:
    if found.skipped:
        return Tried(values=found.values, loss=math.inf)
    return Tried(values=found.values, loss=_loss(view) if view else None)


def _loss(view: RunView) -> float | None:
    """The lowest validation loss; infinite if the point's own values have made its run fail."""
    if isinstance(view.ending, RunFailed) and view.ending.cause in ("not_finite", "out_of_memory"):
        return math.inf
    return view.best_validation.loss if view.best_validation else None


def _spent(search: Search, record: SweepRecord, views: dict[int, RunView]) -> str:
    """Which budget is spent, as a sentence; empty if none is."""
    trained = sum(not each.skipped for each in record.points)
    if search.runs is not None and trained >= search.runs:
        return f"Its budget of {search.runs} runs is spent."
    seconds = sum(map(trained_seconds, views.values()))
    if search.hours is not None and seconds >= search.hours * SECONDS_PER_HOUR:
        return f"Its budget of {search.hours:g} hours is spent."
    return ""


def trained_seconds(view: RunView) -> float:
    """How long a run has trained: as it says at its end, or else the sum of its steps."""
    if isinstance(view.ending, RunFinished):
        return view.ending.seconds
    return math.fsum(view.steps.seconds) + math.fsum(each.seconds for each in view.validations)


def _adapters(file: Path) -> Path:
    """The adapters folder of the project that a sweep's record is in."""
    return (file.parent.parent / "adapters").resolve()

"""Puts a sweep on the queue, and adds to it what follows the end of one of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from mlxft.errors import RunError
from mlxft.queue.entries import Queue, added
from mlxft.queue.rounds import with_next_round
from mlxft.queue.searching import draw_next, with_next_point
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.new_run import absolute, new_run
from mlxft.sweep.fit import Estimate, estimates, refusal
from mlxft.sweep.plan import Point, Sweep, point, points, prepared
from mlxft.sweep.record import (
    SweepRecord,
    drawing,
    load_record,
    read_record,
    record_file,
    recorded,
    run_of,
    save_record,
)
from mlxft.sweep.search import Tried, next_values, require_optuna
from mlxft.sweep.space import check_search, samples, space_of


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A sweep before its first run."""

    points: Sequence[Point]
    """Those that are known; a search may draw each when the one before has ended."""
    record: SweepRecord


def first_recipe(sweep: Sweep, base: Recipe) -> Recipe:
    """The recipe of a sweep's first point, or one like it. Raises `RecipeError`."""
    if sweep.search is None and not sweep.space:
        return points(sweep, base)[0].recipe
    check_search(sweep, base)
    drawn = samples(space_of(sweep.space), 1)[0]
    return point(sweep.name, 1, drawn, prepared(sweep, base)).recipe


def planned(project: Path, sweep: Sweep, base: Recipe, longest: int | None) -> PlannedSweep:
    """A sweep of a project's recipe; `longest` is at most the tokens of its longest record.

    Raises `RecipeError`.
    """
    estimate = estimates(project, longest)
    if sweep.search is None and not sweep.space:
        found = points(sweep, base)
        skipped = {each.number: refusal(estimate(each.recipe)) for each in found}
        return PlannedSweep(points=found, record=recorded(sweep, found, skipped))
    check_search(sweep, base)
    require_optuna()
    base = prepared(sweep, base)
    if sweep.halving is None:
        record = drawing(sweep, absolute(project, base), longest)
        return PlannedSweep(points=(), record=record)
    found, skipped = _first_round(sweep, base, estimate)
    return PlannedSweep(points=found, record=recorded(sweep, found, skipped))


def _first_round(
    sweep: Sweep, base: Recipe, estimate: Estimate
) -> tuple[list[Point], dict[int, str]]:
    """Random points until as many fit as the budget has, and by number why the others don't."""
    search = sweep.search
    assert search is not None
    assert search.runs is not None
    space, found, skipped = space_of(sweep.space), list[Point](), dict[int, str]()
    while len(found) - len(skipped) < search.runs and len(found) < 2 * search.runs + 50:
        tried = [Tried(values=each.values) for each in found]
        values = next_values(space, search, tried)
        if values is None:
            break
        made = point(sweep.name, len(found) + 1, values, base)
        found.append(made)
        if reason := refusal(estimate(made.recipe)):
            skipped[made.number] = reason
    return found, skipped


def start(project: Path, plan: PlannedSweep) -> SweepRecord:
    """The sweep's record, with a run for each point that is trained, before any is queued.

    One that was started before keeps its runs; a search then takes the new budget. Raises
    `RecipeError`, `RunError` and `StorageError`.
    """
    record, file = plan.record, record_file(project, plan.record.name)
    if file.exists():
        before = load_record(project, record.name)
        if not before.is_same(record):
            raise RunError(
                f"{file}: another sweep has this name; give this one a name, or delete the file."
            )
        record = replace(before, search=record.search, ended="") if record.draws else before
    elif not record.draws:
        for each, known in zip(plan.points, record.points, strict=True):
            if not known.skipped:
                run = run_of(project / "adapters", record, each.number)
                run = run or new_run(project, each.recipe, queued=True)
                record = record.with_run(each.number, run.name)
    save_record(project, record)
    return draw_next(file) if record.draws else record


def with_sweep(queue: Queue, project: Path, record: SweepRecord, now: float) -> Queue:
    """A queue with all runs of a started sweep that have not begun. Raises `RunError`."""
    file = record_file(project, record.name)
    if record.draws:
        return with_next_point(queue, file, now)
    is_halved = record.halving is not None and bool(record.rounds)
    until = record.rounds[0].until if is_halved else None
    until = None if until == record.iters else until
    adapters = (project / "adapters").resolve()
    known = {each.run for each in queue.entries}
    for each in record.points:
        run = RunDirectory(adapters / each.run) if each.run else None
        if run and run.queued_recipe_file.is_file() and str(run.path) not in known:
            queue = added(queue, run, now=now, until=until, sweep=str(file) if is_halved else None)
    return queue


def continued(queue: Queue, file: Path, now: float, *, after: str) -> Queue:
    """A queue after a run of a sweep has ended, with what follows it by the sweep's record.

    Raises `RunError` and `StorageError`.
    """
    if read_record(file).draws:
        return with_next_point(queue, file, now, after=after)
    return with_next_round(queue, file, now)

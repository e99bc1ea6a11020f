"""The commands of sweeps: put one on the queue, and report what became of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from mlxft import recipe as recipes
from mlxft.data.dataset import Split
from mlxft.duration.expectation import longest_record, past_runs
from mlxft.errors import ModelError, RunError
from mlxft.memory.calibrated import CalibratedEstimator, load_calibration
from mlxft.memory.local_config import local_config
from mlxft.memory.shapes import ModelShapes
from mlxft.queue.entries import Queue, added
from mlxft.queue.start import root_warning
from mlxft.runs.directory import RunDirectory
from mlxft.sweep.plan import Point, points, read_sweep
from mlxft.sweep.record import (
    SweepRecord,
    load_record,
    names,
    record_file,
    recorded,
    run_of,
    save_record,
)
from mlxft.sweep.report import comma_separated, mapping, markdown, results
from mlxft.telemetry.limits import machine_memory
from mlxft.text import figures, path_json
from mlxft_tui.cli.runs import require_startable
from mlxft_tui.session import Session
from mlxft_tui.terminal import invocation

TEMPLATE_TOKENS: Final = 256
"""More than a chat template adds to a short conversation."""


def sweep(session: Session, file: Path, *, dry_run: bool, as_json: bool) -> int:
    """Check every point's memory and put those that fit on the queue; the others are listed.

    A sweep that was cut short is continued. Raises `RecipeError`, `DataError` and `ModelError` for
    a recipe that can't be trained, `RunError` where the name is another sweep's.
    """
    plan = read_sweep(file)
    base = recipes.load(Path(plan.recipe))
    found = points(plan, base)
    data = require_startable(session, found[0].recipe)
    record = recorded(plan, found, _too_large(session, found, data))
    if dry_run:
        return _show(session, record, as_json=as_json)
    if warning := root_warning():
        print(warning, file=sys.stderr)
    record = _started(session, found, record)
    _enqueue(session, record)
    _show(session, record, as_json=as_json)
    if not as_json:
        report = invocation.command(f"sweep-report {plan.name}")
        print(f"{report} says what became of it, now and later")
    return 0


def report(session: Session, name: str | None, *, as_json: bool, as_csv: bool) -> int:
    """Print what became of a sweep, by default the newest, as Markdown, JSON or CSV."""
    known = names(session.folder)
    if name is None and not known:
        raise RunError(f"{session.folder}: no sweep yet; mlxft-tui sweep SWEEP.yaml starts one.")
    record = load_record(session.folder, name or known[-1])
    if as_csv:
        print(comma_separated(record, results(session.adapters, record)), end="")
        return 0
    return _show(session, record, as_json=as_json)


def _too_large(session: Session, found: list[Point], data: tuple[Split, Split]) -> dict[int, str]:
    """Why points don't fit into this machine's memory, by number."""
    machine, train = machine_memory(), data[0]
    runs = past_runs(session.history.poll() or ())
    longest = longest_record(found[0].recipe, runs, len(train.records)) or _at_most(train)
    skipped = {}
    for point in found:
        try:
            shapes = ModelShapes.from_config(local_config(point.recipe.model, session.folder))
        except ModelError:
            continue  # Nothing is known of the model yet.
        calibration = load_calibration(shapes, machine.kind)
        estimator = CalibratedEstimator(shapes, machine.kind, machine.limit, longest, calibration)
        estimate = estimator.estimate(point.recipe)
        if estimate.verdict == "wont_fit":
            needs, has = figures.gigabytes(estimate.total), figures.gigabytes(estimate.limit)
            skipped[point.number] = f"needs {needs} GB of memory, of {has} GB"
    return skipped


def _at_most(split: Split) -> int:
    """More tokens than the longest record has: a token is at least a byte of its text."""
    texts = (msgspec.json.encode((each.fields, each.rejected)) for each in split.records)
    return max((len(each) for each in texts), default=0) + TEMPLATE_TOKENS


def _started(session: Session, found: list[Point], record: SweepRecord) -> SweepRecord:
    """The sweep's record with a run for every point that is trained, written before any starts.

    One that was started before keeps its runs. Raises `RunError` and `StorageError`.
    """
    file = record_file(session.folder, record.name)
    if file.exists():
        before = load_record(session.folder, record.name)
        if not before.is_same(record):
            raise RunError(
                f"{file}: another sweep has this name; give this one a name, or delete the file."
            )
        return before
    for point, known in zip(found, record.points, strict=True):
        if not known.skipped:
            run = run_of(session.adapters, record, point.number)
            run = run or session.new_run(point.recipe, queued=True)
            record = record.with_run(point.number, run.name)
    save_record(session.folder, record)
    return record


def _enqueue(session: Session, record: SweepRecord) -> None:
    """Put the runs that have not begun on the queue, all at once."""
    now, is_halved = time.time(), record.halving is not None
    file = str(record_file(session.folder, record.name)) if is_halved else None
    until = record.rounds[0].until if is_halved else None
    until = None if until == record.iters else until
    adapters = session.adapters.resolve()
    runs = [RunDirectory(adapters / each.run) for each in record.points if each.run]

    def add(queue: Queue) -> Queue:
        known = {each.run for each in queue.entries}
        for run in runs:
            if run.queued_recipe_file.is_file() and str(run.path) not in known:
                queue = added(queue, run, now=now, until=until, sweep=file)
        return queue

    session.change_queue(add)


def _show(session: Session, record: SweepRecord, *, as_json: bool) -> int:
    found = results(session.adapters, record)
    if as_json:
        rows = [mapping(each) for each in found]
        print(path_json.indented({"sweep": record.name, "points": rows}, 1).decode())
    else:
        print(markdown(record, found), end="")
    return 0

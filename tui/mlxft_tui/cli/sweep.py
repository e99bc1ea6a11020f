"""The commands of sweeps: put one on the queue, and report what became of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from mlxft import recipe as recipes
from mlxft.data.dataset import Split
from mlxft.duration.expectation import Expectation, expect, past_runs, rows_of_files
from mlxft.errors import ModelError, RunError
from mlxft.memory.local_config import local_config
from mlxft.memory.shapes import ModelShapes
from mlxft.queue.start import root_warning
from mlxft.queue.sweeps import first_recipe, planned, start, with_sweep
from mlxft.recipe import Recipe
from mlxft.sweep.cost import Cost, Sources, cost, described, unfit_text
from mlxft.sweep.fit import estimates, longest_of
from mlxft.sweep.plan import Sweep, read_sweep
from mlxft.sweep.record import SweepRecord, load_record, names
from mlxft.sweep.report import Result, comma_separated, mapping, markdown, results
from mlxft.text import path_json
from mlxft_tui.cli.csv_output import print_csv
from mlxft_tui.cli.estimate import backend_of
from mlxft_tui.cli.runs import require_startable
from mlxft_tui.session import Session
from mlxft_tui.terminal import invocation


def sweep(session: Session, file: Path, *, dry_run: bool, as_json: bool) -> int:
    """Check every point's memory and put those that fit on the queue; the others are listed.

    A sweep that was cut short is continued. Raises `RecipeError`, `DataError` and `ModelError` for
    a recipe that can't be trained, `RunError` where the name is another sweep's.
    """
    plan = read_sweep(file)
    base = recipes.load(Path(plan.recipe))
    train, valid = require_startable(session, first_recipe(plan, base))
    longest = longest_of(base, past_runs(session.history.poll() or ()), train)
    found = planned(session.folder, plan, base, longest)
    if dry_run:
        expected = _cost(session, plan, base, longest, (train, valid))
        return _show_plan(session, found.record, expected, as_json=as_json)
    if warning := root_warning():
        print(warning, file=sys.stderr)
    record = start(session.folder, found)
    now = time.time()
    session.change_queue(lambda queue: with_sweep(queue, session.folder, record, now))
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
        print_csv(comma_separated(record, _results(session, record)))
        return 0
    return _show(session, record, as_json=as_json)


def _cost(
    session: Session, plan: Sweep, base: Recipe, longest: int, splits: tuple[Split, Split]
) -> Cost:
    """What the sweep will cost here, from the project's runs or else from the chip."""
    runs = session.history.poll() or ()
    past, backend = past_runs(runs), backend_of(runs)
    records = [len(split.records) for split in splits]

    def time_of(recipe: Recipe) -> Expectation | None:
        try:
            shapes = ModelShapes.from_config(local_config(recipe.model, session.folder))
        except ModelError:
            return None
        return expect(recipe, past, shapes, backend, rows_of_files(recipe, *records))

    sources = Sources(memory=estimates(session.folder, longest), time=time_of)
    return cost(plan, base, sources)


def _show_plan(session: Session, record: SweepRecord, expected: Cost, *, as_json: bool) -> int:
    if as_json:
        figures = {
            "runs": expected.runs,
            "seconds": expected.seconds,
            "seconds_spread": expected.spread,
            "disk": expected.disk,
        }
        return _show(session, record, as_json=True, more={"cost": figures})
    _show(session, record, as_json=False)
    print(f"\nCost: {described(expected)}.")
    if record.draws and (unfit := unfit_text(expected)):
        print(unfit)
    return 0


def _results(session: Session, record: SweepRecord) -> list[Result]:
    return results(session.adapters, record, queued=session.queue().held_by_run)


def _show(
    session: Session, record: SweepRecord, *, as_json: bool, more: dict[str, Any] | None = None
) -> int:
    found = _results(session, record)
    if as_json:
        rows = [mapping(each) for each in found]
        shown = {"sweep": record.name, "points": rows, **(more or {})}
        print(path_json.indented(shown, 1).decode())
    else:
        print(markdown(record, found), end="")
    return 0

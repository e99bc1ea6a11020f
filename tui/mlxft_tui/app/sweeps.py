"""Has a sweep made and started, and shows what becomes of those of the project."""

from __future__ import annotations

import asyncio
import itertools
import time
from functools import partial
from typing import TYPE_CHECKING

from mlxft.errors import MlxftError
from mlxft.runs.directory import RunDirectory
from mlxft_tui.frame.messages import RunChosen
from mlxft_tui.widgets.notices import inform
from mlxft_tui.widgets.remappable import with_keys

if TYPE_CHECKING:
    from mlxft.recipe import Recipe
    from mlxft.sweep.cost import Sources
    from mlxft.sweep.plan import Sweep
    from mlxft.sweep.record import SweepRecord
    from mlxft_tui.app.context import Context
    from mlxft_tui.app.engines import Engines
    from mlxft_tui.sweep.report import Report


class Sweeps:
    """The sweeps of the project."""

    def __init__(self, context: Context, engines: Engines) -> None:
        self._context = context
        self._engines = engines

    def request(self, parameter: str, sources: Sources) -> None:
        """Have a sweep made that varies a parameter of the current recipe, among others."""
        from mlxft_tui.sweep.dialog import SweepDialog
        from mlxft_tui.sweep.form import SweepForm

        recipe = self._context.session.edits.recipe
        names = (f"sweep-{number}" for number in itertools.count(1))
        form = SweepForm(name=next(each for each in names if not self._taken(each)))
        form = form.with_parameter(parameter, recipe)
        dialog = SweepDialog(form, recipe, sources, self._taken)
        self._context.app.push_screen(dialog, self._start)

    def _taken(self, name: str) -> str:
        """Why a sweep can't have a name, or nothing."""
        from mlxft.sweep.record import record_file

        folder = self._context.session.folder
        for file in (folder / f"{name}.yaml", record_file(folder, name)):
            if file.exists():
                return f"{file.name} is there already; choose another name."
        return ""

    def _start(self, sweep: Sweep | None) -> None:
        if sweep is not None:
            starting = partial(self._write_and_start, sweep)
            self._context.run_in_background(starting, group="sweep", exclusive=False)

    async def _write_and_start(self, sweep: Sweep) -> None:
        """Write the sweep's file, and do what the command line does with it."""
        app = self._context.app
        try:
            recipe = await self._engines.startable_recipe()
            await asyncio.to_thread(self._started, sweep, recipe)
        except MlxftError as error:
            self._context.show_error(error)
            return
        shown = with_keys(app, "{recipe.sweep_report=X} on Recipe ({go.recipe}) shows its report.")
        inform(app, f"Sweep {sweep.name} is on the queue; {shown}")

    def _started(self, sweep: Sweep, recipe: Recipe) -> None:
        from mlxft.data.dataset import require_trainable
        from mlxft.duration.expectation import past_runs
        from mlxft.queue.sweeps import planned, start, with_sweep
        from mlxft.recipe.files import write
        from mlxft.sweep.fit import longest_of
        from mlxft.sweep.plan import written

        session, now = self._context.session, time.time()
        train, _ = require_trainable(session.data(recipe), recipe)
        longest = longest_of(recipe, past_runs(session.history.poll() or ()), train)
        plan = planned(session.folder, sweep, recipe, longest)
        write(written(sweep), session.folder / f"{sweep.name}.yaml")
        record = start(session.folder, plan)
        session.change_queue(lambda queue: with_sweep(queue, session.folder, record, now))

    # The report

    def show(self) -> None:
        """Show the newest sweep."""
        from mlxft.sweep.record import names
        from mlxft_tui.sweep.report import SweepReport

        known = names(self._context.session.folder)
        if not known:
            text = "No sweep yet; {recipe.sweep=x} on Recipe ({go.recipe}) makes one."
            self._context.show_error(with_keys(self._context.app, text))
            return
        self._context.app.push_screen(SweepReport(known, self._read), self._follow)

    def _read(self, name: str) -> Report:
        from mlxft.sweep.record import load_record
        from mlxft.sweep.report import results

        session = self._context.session
        record: SweepRecord = load_record(session.folder, name)
        rows, queued = session.table.poll() or (), session.queue().held_by_run
        return record, results(session.adapters, record, rows, queued)

    def _follow(self, run: RunDirectory | None) -> None:
        if run is not None:
            self._context.app.post_message(RunChosen(run))

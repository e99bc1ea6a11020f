"""The Runs screen: the project's runs as one table, and what can be done with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Final

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from mlxft import recipe as recipes
from mlxft.comparison.differences import circumstances, circumstances_now, differences
from mlxft.comparison.filters import parse_filter
from mlxft.comparison.table import RunRow
from mlxft.engine.protocol import Stop
from mlxft.errors import MlxftError, RunError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun
from mlxft.runs.kept_view import compared_run
from mlxft.runs.more_steps import more_steps
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.frame.messages import (
    CommandIssued,
    ComparisonRequested,
    ExportRequested,
    ResumeRequested,
    RunChosen,
)
from mlxft_tui.runs.columns_dialog import ColumnsDialog
from mlxft_tui.runs.details import changed_since, describe, labels_of
from mlxft_tui.runs.housekeeping import HOUSEKEEPING_BINDINGS, KEEP, HousekeepingScreen
from mlxft_tui.runs.queue_dialog import QueueDialog
from mlxft_tui.runs.runs_table import RunsTable
from mlxft_tui.runs.table_look import TableLook, keep_look, read_look
from mlxft_tui.session import Session
from mlxft_tui.terminal.key_queue import DIALOG
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.notices import inform
from mlxft_tui.widgets.remappable import shown_key, with_keys
from mlxft_tui.widgets.text_pane import TextPane

POLL_SECONDS: Final = 2.0
"""Time between two polls of the folder while this screen is shown."""

FIRST_SECONDS: Final = 0.3
"""How long journals are read before the runs read so far are shown."""

LATER_SECONDS: Final = 2.0
"""The same afterwards."""

SETTLE_SECONDS: Final = 0.05
"""How long the cursor stays on a run before its journal is read."""

MORE_STEPS: Final = "total steps"
FILTER: Final = "filter"
"""The questions of the line at the bottom."""

NO_RUNS: Final = """No run yet.

Choose a model on the Recipe screen ({go.recipe}) and press {recipe.train=t} to train.
Runs are saved in """

ACTIONS: Final = frozenset(
    (
        *("resume", "more_steps", "export", "stop", "delete", "start_again", "since"),
        *("label", "pin", "archive", "compare", "tidy"),
    )
)
"""What needs a run."""


class RunsScreen(HousekeepingScreen, keys="runs"):
    """The project's runs: pinned ones first, then by the order chosen."""

    HELP = """The project's runs: pinned and live ones first, then the newest. A run trains
    an adapter, a small set of weights added to the model. A step trains on one batch; loss is that
    of the last report, the mean of its steps, best val the lowest validation loss and its step,
    improved how far that is below the one before training. Runs continue without the app. A run
    that was stopped, has failed or is lost (its engine died) can be resumed from its last
    checkpoint; one that has ended can be trained further. A filter compares columns, as in
    validation_loss < 1.2 and model ~ qwen and tag:good; an empty one shows all. ● is a marked run,
    ↑ a pinned and ↓ an archived one."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compare", "Compare", tooltip="Curves, recipes and scores of the marked runs"),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Show only some runs"),
        *HOUSEKEEPING_BINDINGS,
        Binding("R,r", "resume", "Resume", tooltip="Continue from the last checkpoint"),
        Binding("w", "queue", "Queue", tooltip="Runs that wait, in the order of their start"),
        Binding("m", "more_steps", "More steps", tooltip="Train a run that has ended further"),
        Binding("e", "export", "Export", tooltip="Write model or adapter for use elsewhere"),
        Binding("s", "stop", "Stop", tooltip="Finish the step, save and end the run"),
        Binding("v", "columns", "Columns", tooltip="Choose the columns and their order"),
        Binding("o", "sort", "Sort", show=False, tooltip="Sort by the next column"),
        Binding("O", "reverse", "Reverse", show=False, tooltip="Sort the other way round"),
        Binding("A", "archived", "Archived", show=False, tooltip="Show archived runs too"),
        Binding("f", "start_again", "Recipe", tooltip="Start a new recipe from the run's"),
        Binding("i", "since", "Since", tooltip="What has changed since: recipe, data, versions"),
        Binding("escape", "clear", "Clear", show=False, tooltip="Close, remove marks, filter"),
    ]

    clock: Callable[[], float] = staticmethod(time.time)
    """Seconds of the clock that stamps the journals."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._rows: tuple[RunRow, ...] | None = None
        self._look = TableLook()
        self._extended: RunDirectory | None = None
        """The run that is asked about."""
        self._described: tuple[RunRow | None, FollowedRun | None] = (None, None)
        """What the details show."""
        self._since: RunDirectory | None = None
        """The run of which the details show what has changed since."""

    def compose_body(self) -> ComposeResult:
        with Container(id="runs"):
            yield Static(id="columns")
            yield RunsTable(self.clock)
        yield TextPane("details")
        yield Static(self._no_runs(), id="no-runs")
        yield AskLine()

    def _no_runs(self) -> Content:
        folder = figures.short_path(self.session.adapters)
        return Content(printable(f"{with_keys(self, NO_RUNS)}{folder}."))

    def on_mount(self) -> None:
        self._look = read_look(self.session.adapters)
        self._show_title()
        self.query_one("#details").border_title = "run"
        self.set_interval(POLL_SECONDS, self._poll_if_shown)

    def on_screen_resume(self) -> None:
        self._poll()
        if self._since is not None:
            # The recipe may be another now.
            self._describe_since()

    def _poll_if_shown(self) -> None:
        if self.is_current:
            self._poll()

    def read_again(self) -> None:
        self._poll()

    @work(exclusive=True, group="history")
    async def _poll(self) -> None:
        """Read what has changed, the newest runs first."""
        table, patience = self.session.table, FIRST_SECONDS
        while True:
            rows = await asyncio.to_thread(table.poll, self._rows, patience=patience)
            if not self.app.is_running:
                return
            if rows is not None:
                self._rows = rows
                self._show_rows()
            if not table.unread:
                return
            patience = LATER_SECONDS

    # The table

    def _show_rows(self) -> None:
        """Show the rows as chosen."""
        rows, table = self._rows or (), self.query_one(RunsTable)
        try:
            shown = self._look.arranged(rows, self.clock())
        except RunError as error:
            self.refuse(error)
            shown = rows
        table.forget(rows)
        table.show(shown, self._look)
        self.set_class(not rows, "-empty")
        self._show_title()
        self._show_detail()
        self.refresh_bindings()

    @on(RunsTable.MarksChanged)
    def _show_title(self) -> None:
        everything, table = self._rows or (), self.query_one(RunsTable)
        whole = len(everything) == table.count
        parts = ["runs" if whole else f"runs  {table.count} of {len(everything)}"]
        if table.marked:
            parts.append(f"{len(table.marked)} marked")
        if self._look.filter:
            parts.append(printable_line(self._look.filter))
        if unread := self.session.table.unread:
            parts.append(f"reading {unread} more …")
        self.query_one("#runs").border_title = Content("  ".join(parts)).markup

    def _change_look(self, look: TableLook) -> None:
        self._look = look
        self._show_rows()
        self._keep_look()

    @work(exclusive=True, group="look")
    async def _keep_look(self) -> None:
        await asyncio.to_thread(keep_look, self.session.adapters, self._look)

    @on(RunsTable.Resized)
    def _show_columns(self) -> None:
        self.query_one("#columns", Static).update(self.query_one(RunsTable).columns())

    def action_columns(self) -> None:
        """Choose the columns."""

        def chosen(columns: tuple[str, ...] | None) -> None:
            if columns is not None:
                self._change_look(msgspec.structs.replace(self._look, columns=columns))

        self.app.push_screen(ColumnsDialog(self._look.columns), chosen)

    def action_sort(self) -> None:
        self._change_look(self._look.sorted_by_next())

    def action_reverse(self) -> None:
        self._change_look(msgspec.structs.replace(self._look, descending=not self._look.descending))

    def action_archived(self) -> None:
        self._change_look(msgspec.structs.replace(self._look, archived=not self._look.archived))

    def action_filter(self) -> None:
        """Ask which runs to show."""
        self.query_one(AskLine).ask(FILTER, self._look.filter)

    def _filter(self, text: str) -> None:
        try:
            parse_filter(text)
        except RunError as error:
            self.query_one(AskLine).ask(FILTER, text, problem=str(error))
        else:
            self._change_look(msgspec.structs.replace(self._look, filter=text.strip()))

    def action_clear(self) -> None:
        """Close the page of what has changed, or else remove the marks, or else the filter."""
        if self._since is not None:
            self._since = None
            self._show_detail()
        elif not self.query_one(RunsTable).unmark() and self._look.filter:
            self._filter("")

    # Details

    @on(RunsTable.Moved)
    def _show_detail(self) -> None:
        row = self._chosen
        if row is None or row.directory != self._since:
            self._since = None
            self._describe()
        self.refresh_bindings()

    @work(exclusive=True, group="details")
    async def _describe(self) -> None:
        """Read the run under the cursor, whose journal may be long, and describe it."""
        row = self._chosen
        if row is None:
            return
        before, run = self._described
        if before is not row or run is None:
            # A key that is held down passes many runs.
            await asyncio.sleep(SETTLE_SECONDS)
        key, other = shown_key(self, "runs.resume", "R"), self.run
        run, text = await asyncio.to_thread(
            _described, row, run if before is row else None, other, key
        )
        self._described = (row, run)
        self.query_one(TextPane).show(text)

    def action_since(self) -> None:
        """Show what is other now than when the run was trained, or the run again."""
        row = self._chosen
        if row is None or row.directory == self._since:
            self._since = None
            self._show_detail()
        else:
            self._since = row.directory
            self._describe_since()

    @work(exclusive=True, group="details")
    async def _describe_since(self) -> None:
        row = self._chosen
        if row is None:
            return
        recipe = self.recipe
        try:
            now = await asyncio.to_thread(circumstances_now, recipe, self.session.folder)
        except MlxftError as error:
            self._since = None
            self.refuse(error)
            return
        found = differences([circumstances(row), now])
        self.query_one(TextPane).show(changed_since(row.title, found))

    # Runs and keys

    @property
    def _chosen(self) -> RunRow | None:
        return self.query_one(RunsTable).chosen

    def acted_on(self) -> tuple[RunRow, ...]:
        marked, chosen = self.query_one(RunsTable).marked, self._chosen
        if marked:
            rows = {row.directory: row for row in self._rows or ()}
            return tuple(rows[each] for each in marked if each in rows)
        return (chosen,) if chosen is not None else ()

    def all_rows(self) -> tuple[RunRow, ...]:
        return self._rows or ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action not in ACTIONS or not self.is_mounted:
            return True
        row = self._chosen
        if row is None:
            return None
        match action:
            case "resume":
                return True if row.state in ("stopped", "lost", "failed") else None
            case "stop":
                return True if row.live else None
            case "export":
                return True if not row.live and row.directory.adapter_file.is_file() else None
            case "more_steps" | "delete":
                return None if row.live else True
            case _:
                return True

    def why_disabled(self, action: str) -> str:
        row = self._chosen
        if row is None:
            return with_keys(
                self, "There is no run yet; start one on the Recipe screen ({go.recipe})."
            )
        name, more = row.title, shown_key(self, "runs.more_steps", "m")
        if action == "resume" and row.live:
            return f"{name} is running."
        if action == "resume":
            return f"{name} has finished; {more} trains it further."
        if action == "stop":
            return f"{name} is not running."
        if action == "export" and row.live:
            return f"{name} is running; export it once it has ended."
        if action == "export":
            return f"{name} has saved no adapter; resume it first."
        if action == "more_steps":
            return f"{name} is running; give it more steps once it has ended."
        stop = shown_key(self, "runs.stop", "s")
        return f"{name} is running; stop it ({stop}) before deleting it." if row.live else ""

    @on(RunsTable.Chosen)
    def _follow(self) -> None:
        if row := self._chosen:
            self.post_message(RunChosen(row.directory))

    def action_compare(self) -> None:
        """Show the marked runs side by side, or the one under the cursor."""
        if rows := self.acted_on():
            self.post_message(ComparisonRequested(tuple(row.directory for row in rows)))

    def action_resume(self) -> None:
        if row := self._chosen:
            self.post_message(ResumeRequested(row.directory))

    async def action_start_again(self) -> None:
        """Make the run's recipe the project's, and show it; undo brings the other one back."""
        if row := self._chosen:
            try:
                recipe = row.directory.recipe()
            except MlxftError as error:
                self.refuse(error)
                return
            self.change_recipe(recipes.replace(recipe, "run_name", None))
            undo = shown_key(self, "recipe.undo", "u")
            inform(self, f"The recipe is that of {row.title}; {undo} undoes it.")
            await self.run_action("app.go('recipe')")

    def action_more_steps(self) -> None:
        """Ask how many steps the run should have in all."""
        if row := self._chosen:
            self._extended = row.directory
            steps = row.summary.iters or row.value("iters")
            self.query_one(AskLine).ask(MORE_STEPS, str(2 * steps))

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        self.query_one(RunsTable).focus()
        match message.purpose:
            case purpose if purpose == FILTER:
                self._filter(message.text)
            case purpose if purpose == KEEP:
                self.tidy(message.text)
            case _ if self._extended is not None:
                self._explain_more_steps(self._extended, message.text)

    @work(exclusive=True, group=DIALOG)
    async def _explain_more_steps(self, directory: RunDirectory, text: str) -> None:
        """Explain what more steps mean for the learning rate before they are trained."""
        changes = {"iters": text}
        try:
            run = await asyncio.to_thread(compared_run, directory)
            explained = more_steps(run, directory.recipe(), changes)
        except MlxftError as error:
            self.refuse(error)
        else:
            resume = ResumeRequested(directory, changes)
            await self.ask(explained, "Train", "Leave it as it is", resume)

    @on(AskLine.Cancelled)
    def _keep(self) -> None:
        self.query_one(RunsTable).focus()

    def action_queue(self) -> None:
        """Show the queue; a run that was chosen there is followed."""

        def chosen(directory: RunDirectory | None) -> None:
            if directory is not None:
                self.post_message(RunChosen(directory))

        self.app.push_screen(QueueDialog(self.session), chosen)

    @work(exclusive=True, group=DIALOG)
    async def action_export(self) -> None:
        """Ask what to export of the run, or show the export that is running."""
        if row := self._chosen:
            run = await asyncio.to_thread(compared_run, row.directory)
            self.post_message(ExportRequested(run))

    def action_stop(self) -> None:
        if row := self._chosen:
            question = f"Stop {row.title}? It finishes the step and saves."
            stop = CommandIssued(Stop(), row.directory)
            self.ask(question, "Stop and save", "Keep running", stop)


def _described(
    row: RunRow, known: FollowedRun | None, followed: FollowedRun | None, resume: str
) -> tuple[FollowedRun, Content]:
    """A run, read if it isn't known, and what the details say of it."""
    run = known or compared_run(row.directory)
    # The table knows that an engine may still be starting.
    run = replace(run, state=row.state)
    other = followed if followed and followed.directory != run.directory else None
    parts = [part for part in (labels_of(row), describe(run, other, resume)) if part.plain]
    return run, Content("\n").join(parts)

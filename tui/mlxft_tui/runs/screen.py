"""The Runs screen: the project's runs, and what can be done with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from mlxft import recipe as recipes
from mlxft.engine.protocol import Stop
from mlxft.errors import MlxftError
from mlxft.recipe import PARAMETERS, Parameter, Recipe
from mlxft.recipe.value_text import value_text
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import LearningRateChanged, RunFailed, RunFinished
from mlxft.runs.followed import FollowedRun
from mlxft.runs.more_steps import more_steps
from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.messages import (
    CommandIssued,
    ComparisonRequested,
    DeletionRequested,
    ExportRequested,
    ResumeRequested,
    RunChosen,
)
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.runs.queue_dialog import QueueDialog
from mlxft_tui.runs.runs_table import RunsTable
from mlxft_tui.session import Session
from mlxft_tui.text import event_text
from mlxft_tui.text.theme import FAINT, MUTED
from mlxft_tui.widgets.ask_line import AskLine
from mlxft_tui.widgets.remappable import shown_key, with_keys
from mlxft_tui.widgets.text_pane import TextPane

POLL_SECONDS = 2.0
"""Time between two polls of the folder while this screen is shown."""

SHOWN_CHANGES = 4
"""Latest changes of the learning rate in a run's details."""

MORE_STEPS = "total steps"
"""The question of the line at the bottom."""

NO_RUNS = """No run yet.

Choose a model on the Recipe screen ({go.recipe}) and press {recipe.train=t} to train.
Runs are saved in """


class RunsScreen(AppScreen, keys="runs"):
    """The project's runs: live ones first, then the newest."""

    HELP = """The project's runs: live ones first, then the newest. A run trains
    an adapter, a small set of weights added to the model. A step trains on one batch; loss is that
    of the last report, the mean of its steps, best val the lowest validation loss and its step,
    improved how far that is below the one before training. Runs continue without the app. A run
    that was stopped, has failed or is lost (its engine died) can be resumed from its last
    checkpoint; one that has ended can be trained further."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compare", "Compare", tooltip="Curves, recipes and scores of the marked runs"),
        Binding("R,r", "resume", "Resume", tooltip="Continue from the last checkpoint"),
        Binding("m", "more_steps", "More steps", tooltip="Train a run that has ended further"),
        Binding("w", "queue", "Queue", tooltip="Runs that wait, in the order of their start"),
        Binding("e", "export", "Export", tooltip="Write model or adapter for use elsewhere"),
        Binding("s", "stop", "Stop", tooltip="Finish the step, save and end the run"),
        Binding("d", "delete", "Delete", tooltip="Remove the run with its adapters"),
    ]

    clock: Callable[[], float] = staticmethod(time.time)
    """Seconds of the clock that stamps the journals."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._runs: tuple[FollowedRun, ...] | None = None
        self._extended: FollowedRun | None = None
        """The run that is asked about."""

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
        self.query_one("#runs").border_title = "runs"
        self.query_one("#details").border_title = "run"
        self.set_interval(POLL_SECONDS, self._poll_if_shown)

    def on_screen_resume(self) -> None:
        self._poll()

    def _poll_if_shown(self) -> None:
        if self.is_current:
            self._poll()

    @work(exclusive=True, group="history")
    async def _poll(self) -> None:
        runs = await asyncio.to_thread(self.session.history.poll, self._runs)
        if runs is not None and self.app.is_running:
            self._runs = runs
            self.query_one(RunsTable).show(runs)
            self.set_class(not runs, "-empty")
            self._show_columns()
            self._show_detail()
            self.refresh_bindings()

    @on(RunsTable.Resized)
    def _show_columns(self) -> None:
        self.query_one("#columns", Static).update(self.query_one(RunsTable).columns())

    @on(RunsTable.Moved)
    def _show_detail(self) -> None:
        if run := self._chosen:
            followed = self.run if self.run and self.run.directory != run.directory else None
            self.query_one(TextPane).show(
                describe(run, followed, shown_key(self, "runs.resume", "R"))
            )
        self.refresh_bindings()

    def watch_run(self) -> None:
        if self.is_mounted and self.run and self.run.directory == self._chosen_directory:
            self._poll()

    @property
    def _chosen(self) -> FollowedRun | None:
        return self.query_one(RunsTable).chosen

    @property
    def _chosen_directory(self) -> RunDirectory | None:
        return self._chosen.directory if self._chosen else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if (
            action not in ("resume", "more_steps", "export", "stop", "delete")
            or not self.is_mounted
        ):
            return True
        run = self._chosen
        if run is None:
            return None
        match action:
            case "resume":
                return True if run.state in ("stopped", "lost", "failed") else None
            case "stop":
                return True if run.live else None
            case "export":
                return True if not run.live and has_adapter(run) else None
            case _:
                return None if run.live else True

    def why_disabled(self, action: str) -> str:
        run = self._chosen
        if run is None:
            return with_keys(
                self, "There is no run yet; start one on the Recipe screen ({go.recipe})."
            )
        name, more = run.directory.name, shown_key(self, "runs.more_steps", "m")
        if action == "resume" and run.live:
            return f"{name} is running."
        if action == "resume":
            return f"{name} has finished; {more} trains it further."
        if action == "stop":
            return f"{name} is not running."
        if action == "export":
            return no_export(run)
        if action == "more_steps":
            return f"{name} is running; give it more steps once it has ended."
        stop = shown_key(self, "runs.stop", "s")
        return f"{name} is running; stop it ({stop}) before deleting it." if run.live else ""

    @on(RunsTable.Chosen)
    def _follow(self) -> None:
        if run := self._chosen:
            self.post_message(RunChosen(run.directory))

    def action_resume(self) -> None:
        if run := self._chosen:
            self.post_message(ResumeRequested(run.directory))

    def action_more_steps(self) -> None:
        """Ask how many steps the run should have in all."""
        if run := self._chosen:
            self._extended = run
            steps = run.view.iters or run.recipe.iters
            self.query_one(AskLine).ask(MORE_STEPS, str(2 * steps))

    @on(AskLine.Answered)
    def _explain_more_steps(self, message: AskLine.Answered) -> None:
        """Explain what more steps mean for the learning rate before they are trained."""
        self.query_one(RunsTable).focus()
        run = self._extended
        if run is None:
            return
        changes = {"iters": message.text}
        try:
            explained = more_steps(run, run.directory.recipe(), changes)
        except MlxftError as error:
            self.notify(printable_line(str(error)), severity="error", markup=False)
        else:
            resume = ResumeRequested(run.directory, changes)
            self._ask(explained, "Train", "Leave it as it is", resume)

    @on(AskLine.Cancelled)
    def _keep_steps(self) -> None:
        self.query_one(RunsTable).focus()

    def action_compare(self) -> None:
        """Show the marked runs side by side, or the one under the cursor."""
        if runs := self.query_one(RunsTable).compared:
            self.post_message(ComparisonRequested(runs))

    def action_queue(self) -> None:
        """Show the queue; a run that was chosen there is followed."""

        def chosen(directory: RunDirectory | None) -> None:
            if directory is not None:
                self.post_message(RunChosen(directory))

        self.app.push_screen(QueueDialog(self.session), chosen)

    def action_export(self) -> None:
        """Ask what to export of the run, or show the export that is running."""
        if run := self._chosen:
            self.post_message(ExportRequested(run))

    def action_stop(self) -> None:
        if run := self._chosen:
            question = f"Stop {run.directory.name}? It finishes the step and saves."
            self._ask(
                question, "Stop and save", "Keep running", CommandIssued(Stop(), run.directory)
            )

    def action_delete(self) -> None:
        if run := self._chosen:
            question = f"Delete {run.directory.name} with its adapters? This can't be undone."
            self._ask(question, "Delete", "Keep it", DeletionRequested(run.directory))

    def _ask(self, question: str, yes: str, no: str, then: Message) -> None:
        def answered(confirmed: bool | None) -> None:
            if confirmed:
                self.post_message(then)

        self.app.push_screen(ConfirmDialog(printable_line(question), yes, no), answered)


def has_adapter(run: FollowedRun) -> bool:
    """Whether a run has saved an adapter."""
    return run.directory.adapter_file.is_file()


def no_export(run: FollowedRun) -> str:
    """Why a run can't be exported."""
    if run.live:
        return f"{run.directory.name} is running; export it once it has ended."
    return f"{run.directory.name} has saved no adapter; resume it first."


def describe(run: FollowedRun, other: FollowedRun | None, resume: str) -> Content:
    """A run's path and ending, and how its recipe differs from the defaults and another run.

    `resume` is the key that resumes it.
    """
    parts = [Content.styled(printable_line(figures.short_path(run.directory.path)), MUTED)]
    ending = run.view.ending
    if isinstance(ending, RunFailed):
        parts.append(Content.styled(printable_line(ending.message), "$error"))
        parts.append(Content.assemble(("log ", MUTED), printable_line(ending.log)))
    elif ending is not None:
        parts.append(Content(event_text.ending(ending)))
    elif run.state == "lost":
        parts.append(Content.styled(_lost(run, resume), "$error"))
        log = printable_line(figures.short_path(run.directory.log_file))
        parts.append(Content.assemble(("log ", MUTED), log))
    if not isinstance(ending, RunFinished) and (validated := _validated(run.view)):
        parts.append(Content(validated))
    if run.view.rate_changes:
        parts.append(_changed_rates(run.view.rate_changes))
    parts.append(_changes("the defaults", Recipe(), run.recipe, other_value="default"))
    if other is not None:
        name = printable_line(other.directory.name)
        parts.append(_changes(name, other.recipe, run.recipe, other_value="was"))
    return Content("\n").join(parts)


def _validated(view: RunView) -> str:
    """The validation loss before training and at best."""
    before, best = view.baseline, view.best_validation
    if before is None:
        return ""
    if best is None:
        return f"validation {figures.loss(before.loss)} before training"
    change = figures.improvement(before.loss, best.loss)
    return (
        f"validation {figures.loss(before.loss)} → {figures.loss(best.loss)} at step {best.step} "
        f"({change})"
    )


def _changed_rates(changes: Sequence[LearningRateChanged]) -> Content:
    """The latest manual changes of the learning rate, which are not in the recipe."""
    found = [
        f"{figures.learning_rate(each.learning_rate)} after step {each.step}" for each in changes
    ]
    shown = ", ".join(found[-SHOWN_CHANGES:])
    return Content.assemble(("learning rate changed  ", MUTED), shown)


def _lost(run: FollowedRun, resume: str) -> str:
    checkpoints = run.view.checkpoints
    if not checkpoints:
        return (
            f"The engine died at step {run.view.step} before a checkpoint; {resume} starts again."
        )
    return (
        f"The engine died at step {run.view.step}; "
        f"{resume} resumes from the checkpoint of step {checkpoints[-1].step}."
    )


def _changes(other: str, before: Recipe, after: Recipe, *, other_value: str) -> Content:
    """The parameters in which a recipe differs from another one."""
    lines = [Content.styled(f"differs from {other}", "$accent")]
    for parameter in PARAMETERS.values():
        old, new = recipes.get(before, parameter.key), recipes.get(after, parameter.key)
        if old != new:
            lines.append(
                Content.assemble(
                    f"  {parameter.key.ljust(24)} {_shown(parameter, new)}  ",
                    (f"{other_value} {value_text(parameter, old)}", FAINT),
                )
            )
    if len(lines) == 1:
        return Content.styled(f"same as {other}", MUTED)
    return Content("\n").join(lines)


def _shown(parameter: Parameter, value: object) -> str:
    return figures.shown_path(value_text(parameter, value))

"""The runs screen: everything that was trained here, and what can be done with it."""

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
from mlxft.recipe import PARAMETERS, Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import LearningRateChanged, RunFailed
from mlxft.runs.followed import FollowedRun
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.frame.confirm import ConfirmDialog
from mlxft_tui.frame.messages import CommandIssued, DeletionRequested, ResumeRequested, RunChosen
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.runs.runs_table import RunsTable
from mlxft_tui.session import Session
from mlxft_tui.text import event_text
from mlxft_tui.text.theme import FAINT, MUTED
from mlxft_tui.text.values import value_text
from mlxft_tui.widgets.text_pane import TextPane

LOOK_SECONDS = 2.0
"""How often the folder is looked at while this screen is shown."""

SHOWN_CHANGES = 4
"""Changes of the learning rate that a run's details tell."""

NO_RUNS = """No run yet.

Choose model and parameters on the Recipe screen (2) and start one with t.
Runs are kept in {folder}."""


class RunsScreen(AppScreen, keys="runs"):
    """Past and present runs; the present ones first."""

    HELP = """Runs of this folder, live ones first. A run goes on without the viewer; one that was
    stopped or lost can be resumed from its last checkpoint."""
    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("R,r", "resume", "Resume", tooltip="Go on from the last checkpoint"),
        Binding("s", "stop", "Stop", tooltip="Finish the step, save and end the run"),
        Binding("d", "delete", "Delete", tooltip="Remove the run with its adapters"),
    ]

    clock: Callable[[], float] = staticmethod(time.time)
    """Seconds of the clock that stamps the journals."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._runs: tuple[FollowedRun, ...] | None = None
        """What is shown."""

    def compose_body(self) -> ComposeResult:
        with Container(id="runs"):
            yield Static(id="columns")
            yield RunsTable(self.clock)
        yield TextPane("details")
        yield Static(self._no_runs(), id="no-runs")

    def _no_runs(self) -> Content:
        return Content(printable(NO_RUNS.format(folder=figures.short_path(self.session.adapters))))

    def on_mount(self) -> None:
        self.query_one("#runs").border_title = "runs"
        self.query_one("#details").border_title = "run"
        self.set_interval(LOOK_SECONDS, self._look_if_shown)

    def on_screen_resume(self) -> None:
        self._look()

    def _look_if_shown(self) -> None:
        if self.is_current:
            self._look()

    @work(exclusive=True, group="history")
    async def _look(self) -> None:
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
            self.query_one(TextPane).show(describe(run, followed))
        self.refresh_bindings()

    def watch_run(self) -> None:
        if self.is_mounted and self.run and self.run.directory == self._chosen_directory:
            self._look()

    @property
    def _chosen(self) -> FollowedRun | None:
        return self.query_one(RunsTable).chosen

    @property
    def _chosen_directory(self) -> RunDirectory | None:
        return self._chosen.directory if self._chosen else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action not in ("resume", "stop", "delete") or not self.is_mounted:
            return True
        run = self._chosen
        if run is None:
            return None
        match action:
            case "resume":
                return True if run.state in ("stopped", "lost", "failed") else None
            case "stop":
                return True if run.live else None
            case "delete":
                return None if run.live else True
        return True

    def why_disabled(self, action: str) -> str:
        run = self._chosen
        if run is None:
            return "There is no run yet; start one on the Recipe screen (2)."
        name = run.directory.name
        if action == "resume" and run.live:
            return f"{name} is at work."
        if action == "resume":
            return f"{name} has finished; there is nothing left to train."
        if action == "stop":
            return f"{name} is not at work; there is nothing to stop."
        return f"{name} is at work; stop it (s) before it is deleted." if run.live else ""

    @on(RunsTable.Chosen)
    def _follow(self) -> None:
        if run := self._chosen:
            self.post_message(RunChosen(run.directory))

    def action_resume(self) -> None:
        if run := self._chosen:
            self.post_message(ResumeRequested(run.directory))

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

    def _ask(self, question: str, deed: str, stay: str, then: Message) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.post_message(then)

        self.app.push_screen(ConfirmDialog(printable_line(question), deed, stay), answered)


def describe(run: FollowedRun, other: FollowedRun | None) -> Content:
    """A run's place, its end, and how its recipe differs from the defaults and another's."""
    parts = [Content.styled(printable_line(figures.short_path(run.directory.path)), MUTED)]
    ending = run.view.ending
    if isinstance(ending, RunFailed):
        parts.append(Content.styled(printable_line(ending.message), "$error"))
        parts.append(Content.assemble(("log ", MUTED), printable_line(ending.log)))
    elif ending is not None:
        parts.append(Content(event_text.line(ending) or ""))
    elif run.state == "lost":
        parts.append(Content.styled(_lost(run), "$error"))
        log = printable_line(figures.short_path(run.directory.log_file))
        parts.append(Content.assemble(("log ", MUTED), log))
    if run.view.rate_changes:
        parts.append(_changed_rates(run.view.rate_changes))
    parts.append(_changes("differs from the defaults", Recipe(), run.recipe))
    if other is not None:
        name = printable_line(other.directory.name)
        parts.append(_changes(f"differs from {name}", other.recipe, run.recipe))
    return Content("\n").join(parts)


def _changed_rates(changes: Sequence[LearningRateChanged]) -> Content:
    """The latest changes of the rate by hand, which its recipe doesn't tell."""
    told = [
        f"{figures.learning_rate(each.learning_rate)} after step {each.step}" for each in changes
    ]
    shown = ", ".join(told[-SHOWN_CHANGES:])
    return Content.assemble(("learning rate changed  ", MUTED), shown)


def _lost(run: FollowedRun) -> str:
    checkpoints = run.view.checkpoints
    if not checkpoints:
        return f"The engine has gone at step {run.view.step} before a checkpoint; R starts anew."
    return (
        f"The engine has gone at step {run.view.step}; "
        f"R resumes from the checkpoint of step {checkpoints[-1].step}."
    )


def _changes(title: str, before: Recipe, after: Recipe) -> Content:
    lines = [Content.styled(title, "$accent")]
    for parameter in PARAMETERS.values():
        old, new = recipes.get(before, parameter.key), recipes.get(after, parameter.key)
        if old != new:
            lines.append(
                Content.assemble(
                    f"  {parameter.key.ljust(24)} {value_text(parameter, new)}  ",
                    (f"was {value_text(parameter, old)}", FAINT),
                )
            )
    return (
        Content("\n").join(lines)
        if len(lines) > 1
        else Content.styled(f"{title}: in nothing", MUTED)
    )

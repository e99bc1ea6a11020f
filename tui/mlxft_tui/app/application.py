"""The application's shell: screens, keys, terminal output, and exit."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rich.console import RenderableType
from textual import on
from textual._compositor import CompositorUpdate
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import ModalScreen, Screen
from textual.worker import WorkerFailed

from mlxft.storage.paths import keys_file
from mlxft.text.printable import printable_line
from mlxft_tui.frame.keys import APP_BINDINGS, SCREENS
from mlxft_tui.frame.messages import (
    ChatOfRunsRequested,
    CommandIssued,
    ComparisonRequested,
    DataRead,
    DeletionRequested,
    ExportRequested,
    ModelChoiceRequested,
    ModelReopened,
    QueueingRequested,
    RecipeChanged,
    RecipePreviewed,
    ResumeRequested,
    RunChosen,
    SweepReportRequested,
    SweepRequested,
    TrainingRequested,
)
from mlxft_tui.frame.start_screen import StartScreen
from mlxft_tui.terminal import connection, crash, garbage, invocation
from mlxft_tui.terminal.driver import TerminalDriver
from mlxft_tui.terminal.key_queue import KeyQueueApp
from mlxft_tui.terminal.painting import Painter
from mlxft_tui.text.stylesheet import RememberingStylesheet
from mlxft_tui.text.theme import DARK, LIGHT
from mlxft_tui.widgets.remappable import Remappable

if TYPE_CHECKING:
    from textual.command import Provider

    from mlxft.recipe import Recipe
    from mlxft.runs.directory import RunDirectory
    from mlxft_tui.app.project import Project
    from mlxft_tui.frame.screen import AppScreen
    from mlxft_tui.session import Session

SWITCH_SECONDS = 0.001
"""How long a thread that reads data or a journal may keep the interpreter from a key."""

SETTLED_SECONDS: Final = 3.0
"""From the start until what the first screen needs has been imported too."""

COLLECT_SECONDS: Final = 15.0
IDLE_SECONDS: Final = 2.0
"""Without a key, after which none is expected soon."""

LOST_TERMINAL = "mlxft-tui lost its terminal. Runs keep training in the background."


def _named_themes() -> type[Provider]:
    from mlxft_tui.frame.palette import NamedThemes

    return NamedThemes


class MlxftApp(Remappable, KeyQueueApp, keys="app"):
    """Shows one project folder and controls its runs."""

    CSS_PATH = "app.tcss"
    TITLE = "mlxft-tui"
    BINDINGS: ClassVar[list[BindingType]] = [*APP_BINDINGS]
    COMMANDS = KeyQueueApp.COMMANDS | {_named_themes}

    _exit_message = ""
    """Printed on the terminal after the exit."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe | None = None,
        follow: RunDirectory | None = None,
        session: Session | None = None,
        *,
        start_screen: bool = False,
    ) -> None:
        """With `start_screen` the project is opened after an empty first screen is painted."""
        self._first_mode = "data" if follow is None else "train"
        if not start_screen:
            self.DEFAULT_MODE = self._first_mode  # type: ignore[misc]
        super().__init__(TerminalDriver)
        self._folder = folder
        self._open_project = partial(self._opened_project, recipe, follow, session)
        self._startup_error = ""
        self._project: Project | None = None
        self._painter = Painter()
        for each in SCREENS:
            self.add_mode(each.mode, partial(self._new_screen, each.mode))
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        self.stylesheet = RememberingStylesheet(variables=self.get_css_variables())
        self._use_own_keys()
        if connection.is_remote():
            self.animation_level = "none"
        if start_screen:
            self.hold_keys()
        else:
            self._project = self._open_project()

    def _use_own_keys(self) -> None:
        """Apply the user's keys.toml. Raises `MlxftError`."""
        if (file := keys_file()).exists():
            from mlxft_tui.app.own_keys import own_keys

            self.set_keymap(own_keys(file))

    def _opened_project(
        self, recipe: Recipe | None, follow: RunDirectory | None, session: Session | None
    ) -> Project:
        """Read the recipe; the modules for that are imported here, after the first paint."""
        from mlxft.errors import RecipeError
        from mlxft_tui.app.project import Project
        from mlxft_tui.session import Session

        session = session or Session(self._folder)
        try:
            session.open_recipe(recipe)
        except RecipeError as error:
            self._startup_error = str(error)
        return Project(self, session, follow)

    @property
    def project(self) -> Project:
        """The project, once the first screen is painted."""
        assert self._project is not None
        return self._project

    @property
    def session(self) -> Session:
        """The project's session."""
        return self.project.session

    def get_default_screen(self) -> StartScreen:
        return StartScreen(self._folder, self._first_mode)

    async def on_mount(self) -> None:
        crash.log_to_file()
        if not self.is_headless:
            connection.replace_missing_characters()
            connection.on_hangup_and_termination(self._leave)
            connection.watch()
            sys.setswitchinterval(SWITCH_SECONDS)
        if self._project is not None:
            self.project.context.publish()
            self.call_after_refresh(self._start)
        else:
            self.call_after_refresh(self._show_first_screen)

    async def _show_first_screen(self) -> None:
        """Open the project, now that the start screen is painted."""
        self._project = self._open_project()
        await self.action_go(self._first_mode)
        self.release_keys()
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        """Start everything that can wait until the first screen is painted."""
        if self._startup_error:
            self.project.context.show_error(self._startup_error)
        self.project.start()
        if not self.is_headless:
            garbage.settle()
            self.set_timer(SETTLED_SECONDS, self._settle_garbage)
            self.set_interval(COLLECT_SECONDS, self._collect_garbage)

    def _settle_garbage(self) -> None:
        """Settle as soon as that delays no key."""
        if self.idle_seconds >= IDLE_SECONDS:
            garbage.settle()
        else:
            self.set_timer(IDLE_SECONDS, self._settle_garbage)

    def _collect_garbage(self) -> None:
        if self.idle_seconds >= IDLE_SECONDS:
            garbage.collect()

    async def on_unmount(self) -> None:
        if self._project is not None:
            await self.project.close()

    # Terminal output

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        if isinstance(renderable, CompositorUpdate):
            renderable = self._painter.painted(renderable, self.size)
        super()._display(screen, renderable)

    def on_resize(self) -> None:
        """Repaint everything, even at the same size: the terminal may have been resized twice or
        used by another program."""
        self._painter.forget()
        if self.screen_stack:
            self.screen.refresh()

    def action_redraw(self) -> None:
        """Repaint the whole screen, in case the terminal lost part of it."""
        self._painter.forget()
        self.refresh(layout=True)

    # Screens

    def _new_screen(self, mode: str) -> AppScreen:
        """Create a screen, importing its module on first use."""
        match mode:
            case "data":
                from mlxft_tui.data.screen import DataScreen

                return DataScreen(self.session)
            case "recipe":
                from mlxft_tui.recipe.screen import RecipeScreen

                return RecipeScreen(self.session)
            case "train":
                from mlxft_tui.train.screen import TrainScreen

                return TrainScreen(self.session)
            case "chat":
                from mlxft_tui.chat.screen import ChatScreen

                return ChatScreen(self.session)
            case _:
                from mlxft_tui.runs.screen import RunsScreen

                return RunsScreen(self.session)

    async def action_go(self, mode: str) -> None:
        """Show a screen."""
        if mode == self.current_mode:
            return
        with self.batch_update():
            await self.switch_mode(mode)
            self.project.context.publish()
        self.project.data.refresh()

    # Requests of screens

    @on(RecipeChanged)
    def _recipe_changed(self, message: RecipeChanged) -> None:
        message.heard()
        self.project.show_edits()

    @on(RecipePreviewed)
    def _recipe_previewed(self, message: RecipePreviewed) -> None:
        self.project.show_recipe(message.recipe)

    @on(DataRead)
    def _data_read(self, message: DataRead) -> None:
        self.project.data.receive(message.view)

    @on(ModelReopened)
    def _model_reopened(self, message: ModelReopened) -> None:
        self.project.model.reopened(message.recipe, message.opened)

    @on(TrainingRequested)
    def _training_requested(self) -> None:
        self.project.engines.train()

    @on(QueueingRequested)
    def _queueing_requested(self) -> None:
        self.project.engines.enqueue()

    @on(SweepRequested)
    def _sweep_requested(self, message: SweepRequested) -> None:
        self.project.sweeps.request(message.parameter, message.sources)

    @on(SweepReportRequested)
    def _sweep_report_requested(self) -> None:
        self.project.sweeps.show()

    @on(ResumeRequested)
    def _resume_requested(self, message: ResumeRequested) -> None:
        self.project.engines.resume(message.directory, message.changes)

    @on(RunChosen)
    async def _run_chosen(self, message: RunChosen) -> None:
        self.project.runs.switch(message.directory)
        await self.action_go("train")

    @on(ComparisonRequested)
    async def _comparison_requested(self, message: ComparisonRequested) -> None:
        from mlxft_tui.compare.screen import CompareScreen

        await self.push_screen(CompareScreen(self.session, message.directories))
        self.project.context.publish()

    @on(ChatOfRunsRequested)
    async def _chat_of_runs_requested(self, message: ChatOfRunsRequested) -> None:
        from mlxft_tui.chat.screen import ChatScreen

        followed = self.project.runs.follow_one_of(message.directories)
        await self.action_go("chat")
        screen = self.screen_stack[0]
        assert isinstance(screen, ChatScreen)
        screen.let_answer(message.directories, followed)

    @on(CommandIssued)
    def _command_issued(self, message: CommandIssued) -> None:
        self.project.engines.command(message.directory, message.command)

    @on(ExportRequested)
    def _export_requested(self, message: ExportRequested) -> None:
        self.project.exports.request(message.run)

    @on(ModelChoiceRequested)
    def _model_choice_requested(self) -> None:
        self.project.model_choice.request()

    @on(DeletionRequested)
    def _deletion_requested(self, message: DeletionRequested) -> None:
        self.project.engines.delete(message.directories)

    # Help, palette and exit

    def action_help(self) -> None:
        """Show the keys that work here."""
        from mlxft_tui.frame.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def action_doctor(self) -> None:
        """Show what this machine means for a run, and its self-test."""
        if not isinstance(self.screen, ModalScreen):
            self.project.doctor.open()

    def action_command_palette(self) -> None:
        from mlxft_tui.frame.palette import Palette

        if not isinstance(self.screen, ModalScreen):
            self.push_screen(Palette())

    def search_themes(self) -> None:
        """List all themes."""
        from textual.theme import ThemeProvider

        from mlxft_tui.frame.palette import Palette

        self.push_screen(Palette(providers=[ThemeProvider], placeholder="Search for themes…"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for each in SCREENS:
            go = partial(self.run_action, f"go('{each.mode}')")
            yield SystemCommand(each.title, each.purpose, go)
        yield SystemCommand("Help", "All keys of this screen", self.action_help)
        purpose = "What this machine means for a run; its self-test"
        yield SystemCommand("Doctor", purpose, self.action_doctor)
        yield SystemCommand("Sweeps", "What becomes of the sweeps", self.project.sweeps.show)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)
        yield SystemCommand("Screenshot", "Save this screen as SVG", self.deliver_screenshot)
        yield SystemCommand("Quit", "Quit; runs keep running", self.action_detach)

    def action_detach(self) -> None:
        """Quit, and say which run keeps running; ask first if something would be lost."""
        lost = self.project.would_be_lost() if self._project else ""
        if lost:
            from mlxft_tui.frame.confirm import ConfirmDialog

            question = ConfirmDialog(printable_line(lost), "Quit anyway")
            self.push_screen(question, lambda yes: self._leave(0) if yes else None)
        else:
            self._leave(0)

    async def action_quit(self) -> None:
        self.action_detach()

    def _leave(self, code: int) -> None:
        run = self._project.state.run if self._project else None
        if run is not None and run.live:
            name = printable_line(run.directory.name)
            back = invocation.of_run("attach", run.directory.path)
            status = "stays paused" if run.state == "paused" else "keeps running"
            self._exit_message = f"Run {name} {status} in the background; to reattach:\n  {back}"
        self.exit(return_code=code)

    # Failure

    def _handle_exception(self, error: Exception) -> None:
        failure = error.error if isinstance(error, WorkerFailed) else error
        message = crash.record(failure)
        if not self._exit:
            self._exit_message = message
            super()._handle_exception(error)
        # During exit, screens lose their widgets one by one.

    def _fatal_error(self) -> None:
        self.panic()

    def panic(self, *renderables: RenderableType) -> None:
        """Exit with one sentence; the traceback is in the log."""
        self._exit_message = self._exit_message or LOST_TERMINAL
        self._return_code = self._return_code or 1
        super().panic()

    def _print_error_renderables(self) -> None:
        """Print the message unwrapped, since a path broken over lines can't be copied."""
        if self._exit_message:
            print(self._exit_message, file=sys.stderr)

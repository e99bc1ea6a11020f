"""The application: follows one run, keeps the recipe's model open, and shows five screens."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.console import RenderableType
from textual import on, work
from textual._compositor import CompositorUpdate
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import ModalScreen, Screen
from textual.worker import WorkerFailed, get_current_worker

from mlxft.data import folder_view
from mlxft.data.folder_view import DataView
from mlxft.engine.machine import refuse_if_training
from mlxft.errors import EngineError, MlxftError, ModelError, RecipeError
from mlxft.paths import keys_file
from mlxft.recipe import Recipe, token_settings
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import ProgressMade
from mlxft.runs.followed import START_SECONDS, FollowedRun, Follower
from mlxft.text.printable import printable_line
from mlxft_tui.data import token_lengths
from mlxft_tui.frame.keys import APP_BINDINGS, SCREENS
from mlxft_tui.frame.messages import (
    CommandIssued,
    DataRead,
    DeletionRequested,
    ModelReopened,
    RecipeChanged,
    ResumeRequested,
    RunChosen,
    TrainingRequested,
)
from mlxft_tui.frame.pending import Refused
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.session import Session
from mlxft_tui.terminal import connection, crash, garbage, invocation
from mlxft_tui.terminal.driver import TerminalDriver
from mlxft_tui.terminal.key_queue import KeyQueueApp
from mlxft_tui.terminal.painting import Painter
from mlxft_tui.text.theme import DARK, LIGHT
from mlxft_tui.widgets.remappable import Remappable

if TYPE_CHECKING:
    from textual.command import Provider

    from mlxft.data.split_files import SplitName
    from mlxft.data.token_figures import TokenFigures
    from mlxft.engine.protocol import AnyCommand, ModelOpened
    from mlxft.telemetry.sample import Sample
    from mlxft.telemetry.sampler import Sampler

POLL_SECONDS = 0.5
"""Interval between reads of the followed run's journal. Each may repaint much of the screen, which
slows a run on the same machine and fills a slow link."""

MANY_LINES = 50_000
"""Records above which checking all of them takes noticeable time."""

UNREADABLE = "mlxft-tui lost its terminal. Runs keep training in the background."

NO_MODEL = "No model selected; set model on the Recipe screen (2)."

MACHINE_SECONDS = 2.0
"""Interval of machine samples while no engine writes them."""


def _named_themes() -> type[Provider]:
    from mlxft_tui.frame.palette import NamedThemes

    return NamedThemes


class MlxftApp(Remappable, KeyQueueApp, keys="app"):
    """The viewer and controller of one project folder."""

    CSS_PATH = "app.tcss"
    TITLE = "mlxft-tui"
    DEFAULT_MODE = "data"
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
    ) -> None:
        if follow is not None:
            self.DEFAULT_MODE = "train"  # type: ignore[misc]
        super().__init__(TerminalDriver)
        self.session = session or Session(folder)
        self._startup_error = ""
        try:
            self._recipe = recipe or self.session.saved_recipe()
        except RecipeError as error:
            self._recipe, self._startup_error = Recipe(), str(error)
        self._followed = follow
        self._resuming: RunDirectory | None = None
        self._run: FollowedRun | None = None
        self._model: ModelOpened | None = None
        self._model_progress: ProgressMade | str | None = None
        self._machine: Sample | None = None
        self._refused: Refused | None = None
        self._data: DataView | None = None
        self._data_stamp: object = None
        self._tokens: Mapping[SplitName, TokenFigures] = {}
        self._tokens_of: object = None
        self._painter = Painter()
        for each in SCREENS:
            self.add_mode(each.mode, partial(self._new_screen, each.mode))
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        self._use_own_keys()
        if connection.is_remote():
            self.animation_level = "none"

    def _use_own_keys(self) -> None:
        """Apply the user's keys.toml. Raises `MlxftError`."""
        if (file := keys_file()).is_file():
            from mlxft_tui import keymap

            self.set_keymap(keymap.load(file))

    async def on_mount(self) -> None:
        crash.log_to_file()
        if not self.is_headless:
            connection.replace_missing_characters()
            connection.on_hangup_and_termination(self._leave)
            connection.watch()
        self._publish()
        if self._startup_error:
            self._show_error(self._startup_error)
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        """Start everything that can wait until the first screen is painted."""
        if self._followed is not None:
            self._follow(self._followed)
        else:
            self._follow_last_run()
        self._refresh_data()
        self._open_model()
        self._sample_machine()
        if not self.is_headless:
            garbage.settle()

    async def on_unmount(self) -> None:
        await self.session.close()

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
            self._publish()
        self._refresh_data()

    def _publish(self) -> None:
        """Push the state to the current screen; the others get it when shown."""
        # During exit, screens lose their widgets one by one.
        screen = next(iter(self.screen_stack), None) if self.is_running else None
        if isinstance(screen, AppScreen) and screen.is_mounted:
            screen.recipe = self._recipe
            screen.run = self._run
            is_loading = self._followed is not None and self._run is None
            screen.loading_run = self._followed.name if self._followed and is_loading else ""
            screen.model = self._model
            screen.model_progress = self._model_progress
            screen.machine = self._machine
            screen.refused = self._refused
            screen.data = self._data
            screen.tokens = self._tokens

    # The followed run and the machine

    def _switch_run(self, directory: RunDirectory) -> None:
        if self._run is None or self._run.directory != directory:
            self._run = None
        self._followed = directory
        self._follow(directory)

    @work(exclusive=True, group="follow")
    async def _follow_last_run(self) -> None:
        """Follow the folder's live run, or else the newest."""
        found = await asyncio.to_thread(self.session.run_to_follow)
        if found is not None:
            self._switch_run(found)

    @work(exclusive=True, group="follow")
    async def _follow(self, directory: RunDirectory, patience: float = START_SECONDS) -> None:
        follower = Follower(directory, patience)
        while directory.recipe_file.is_file():
            found = await asyncio.to_thread(follower.poll)
            if found is not None:
                self._run = found
                if found.view.machine is not None and found.live:
                    self._machine = found.view.machine.sample
                self._publish()
                self._refresh_tokens()
            await asyncio.sleep(POLL_SECONDS)
        if self._run is not None and self._run.directory == directory:
            self.notify(f"{printable_line(directory.name)} was deleted.")
        self._forget(directory)

    def _forget(self, directory: RunDirectory) -> None:
        """Follow another run instead of a deleted one."""
        if self._followed == directory:
            self._followed = self._run = None
            self._publish()
            self._follow_last_run()

    @work(exclusive=True, group="machine")
    async def _sample_machine(self) -> None:
        """Sample the machine while no engine writes samples to a journal."""
        sampler = await asyncio.to_thread(_new_sampler)
        while True:
            if self._run is None or self._run.view.machine is None or not self._run.live:
                self._machine = await asyncio.to_thread(sampler.sample)
                self._publish()
            await asyncio.sleep(MACHINE_SECONDS)

    # The recipe and its model

    @on(RecipeChanged)
    def _recipe_changed(self, message: RecipeChanged) -> None:
        before, self._recipe = self._recipe, message.recipe
        self._publish()
        if _model_of(before) != _model_of(self._recipe):
            self._open_model()
        self._refresh_data()
        self._refresh_tokens()

    def _refresh_data(self) -> None:
        """Read the data folder if another one was chosen or its files changed."""
        folder = self.session.data(self._recipe)
        stamp = (folder, self._recipe.columns, folder_view.stamp(folder))
        if stamp != self._data_stamp:
            self._data_stamp = stamp
            self._read_data(folder, self._recipe)

    @work(thread=True, exclusive=True, group="data")
    def _read_data(self, folder: Path, recipe: Recipe) -> None:
        worker = get_current_worker()

        def report(view: DataView) -> None:
            if not worker.is_cancelled:
                self.post_message(DataRead(view))

        try:
            if not folder.exists() and folder != self.session.path(recipe.data):
                report(
                    folder_view.without_records(folder, f"Looking for {recipe.data} on the hub …")
                )
                self.session.fetch_data(recipe)
        except MlxftError as error:
            report(folder_view.without_records(folder, str(error)))
        else:
            folder_view.read(folder, recipe.columns, report, lambda: worker.is_cancelled)

    @on(DataRead)
    def _data_read(self, message: DataRead) -> None:
        if message.view.folder == self.session.data(self._recipe):
            self._data = message.view
            self._publish()
            self._refresh_tokens()

    def _refresh_tokens(self) -> None:
        """Measure the data in tokens again if data, model or relevant recipe values changed."""
        if self._data is None:
            return
        live = self._run is not None and self._run.live
        wanted = (self._data_stamp, token_settings(self._recipe), self._model, live)
        if wanted != self._tokens_of:
            self._tokens_of = wanted
            self._measure_tokens(self._data, self._recipe, whole=not live)

    @work(exclusive=True, group="tokens")
    async def _measure_tokens(self, data: DataView, recipe: Recipe, whole: bool) -> None:
        """Measure a sample, or with `whole` all records, which would slow a live run."""
        await asyncio.sleep(token_lengths.SETTLE_SECONDS)
        self._tokens = await asyncio.to_thread(token_lengths.kept, data, recipe)
        self._publish()
        if self._model is None:
            return
        with contextlib.suppress(EngineError):  # The record preview shows the reason.
            async for found in token_lengths.measured(self.session, data, recipe, whole=whole):
                self._tokens = found
                self._publish()

    @work(exclusive=True, group="model")
    async def _open_model(self) -> None:
        """Have the model service download the recipe's model and load its tokenizer."""
        from mlxft.engine.protocol import ModelOpened, OpenModel, Progressed

        self._model = None
        if not self._recipe.model:
            self._set_model_progress(NO_MODEL)
            return
        self._set_model_progress(ProgressMade(stage="waiting", done=0))
        try:
            client = await self.session.service()
            async for reply in client.stream(OpenModel(*_model_of(self._recipe))):
                if isinstance(reply, Progressed):
                    self._set_model_progress(reply.progress)
                elif isinstance(reply, ModelOpened):
                    self._model = reply
                    self._set_model_progress(None)
                    self._refresh_tokens()
        except MlxftError as error:
            self._set_model_progress(str(error))

    @on(ModelReopened)
    def _model_reopened(self, message: ModelReopened) -> None:
        """The chat has opened the model after its opening was cancelled here."""
        if self._model is None and _model_of(message.recipe) == _model_of(self._recipe):
            self._model = message.opened
            self._set_model_progress(None)
            self._refresh_tokens()

    def _set_model_progress(self, progress: ProgressMade | str | None) -> None:
        self._model_progress = progress
        self._publish()

    # Engines

    @on(TrainingRequested)
    def _training_requested(self) -> None:
        self._resuming = None
        self._train()

    @work(exclusive=True, group="launch")
    async def _train(self) -> None:
        try:
            if not self._recipe.model:
                raise ModelError(NO_MODEL)
            refuse_if_training()
            await self._refuse_unusable_data()
            self.session.save(self._recipe)
            directory = self.session.new_run(self._recipe)
        except MlxftError as error:
            self._show_error(error)
            return
        await self._launch(directory)

    async def _refuse_unusable_data(self) -> None:
        """Check the data as the engine will, unless it is too large to read twice."""
        if self._data is None or sum(split.lines for split in self._data.splits) < MANY_LINES:
            from mlxft.data.dataset import require_trainable

            folder = self.session.data(self._recipe)
            await asyncio.to_thread(require_trainable, folder, self._recipe)

    @on(ResumeRequested)
    def _resume_requested(self, message: ResumeRequested) -> None:
        # A held key repeats while the engine starts.
        if message.directory != self._resuming:
            self._resuming = message.directory
            self._resume(message.directory, message.changes)

    @work(exclusive=True, group="launch")
    async def _resume(self, directory: RunDirectory, changes: Mapping[str, object]) -> None:
        try:
            self.session.change(directory, changes)
            await self._launch(directory)
        except MlxftError as error:
            self._show_error(error)
        finally:
            if self._resuming == directory:
                self._resuming = None

    async def _launch(self, directory: RunDirectory) -> None:
        """Start an engine on the run and show it immediately."""
        self._switch_run(directory)
        await self.action_go("train")
        try:
            await asyncio.to_thread(self.session.launch, directory)
        except MlxftError as error:
            self._show_error(error)
            self._follow(directory, patience=0)

    @on(RunChosen)
    async def _run_chosen(self, message: RunChosen) -> None:
        self._switch_run(message.directory)
        await self.action_go("train")

    @on(CommandIssued)
    def _command_issued(self, message: CommandIssued) -> None:
        directory = message.directory or self._followed
        if directory is None:
            self._show_error("No run to control; start one on the Recipe screen (2).")
        else:
            self._send(directory, message.command)

    @work(group="commands")
    async def _send(self, directory: RunDirectory, command: AnyCommand) -> None:
        try:
            await (await self.session.engine(directory)).send(command)
        except MlxftError as error:
            self._show_error(error)
            self._refused = Refused(command)
            self._publish()

    @on(DeletionRequested)
    def _deletion_requested(self, message: DeletionRequested) -> None:
        self._delete(message.directory)

    @work(group="commands")
    async def _delete(self, directory: RunDirectory) -> None:
        try:
            await asyncio.to_thread(self.session.delete, directory)
        except MlxftError as error:
            self._show_error(error)
            return
        if self._followed == directory:
            self.workers.cancel_group(self, "follow")
        self._forget(directory)

    def _show_error(self, problem: MlxftError | str) -> None:
        self.notify(printable_line(str(problem)), severity="error", timeout=12, markup=False)

    # Help, palette and exit

    def action_help(self) -> None:
        """Show the keys that work here."""
        from mlxft_tui.frame.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

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
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)
        yield SystemCommand("Screenshot", "Save this screen as SVG", self.deliver_screenshot)
        yield SystemCommand("Quit", "Quit; runs keep running", self.action_detach)

    def action_detach(self) -> None:
        """Quit, and say which run keeps running."""
        self._leave(0)

    async def action_quit(self) -> None:
        self.action_detach()

    def _leave(self, code: int) -> None:
        if self._run is not None and self._run.live:
            name = printable_line(self._run.directory.name)
            back = invocation.command("attach")
            status = "stays paused" if self._run.state == "paused" else "keeps running"
            self._exit_message = f"Run {name} {status} in the background; to reattach: {back}"
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
        self._exit_message = self._exit_message or UNREADABLE
        self._return_code = self._return_code or 1
        super().panic()

    def _print_error_renderables(self) -> None:
        """Print the message unwrapped, since a path broken over lines can't be copied."""
        if self._exit_message:
            print(self._exit_message, file=sys.stderr)


def _model_of(recipe: Recipe) -> tuple[str, bool]:
    return recipe.model, recipe.trust_remote_code


def _new_sampler() -> Sampler:
    from mlxft.telemetry.sampler import Sampler

    return Sampler()

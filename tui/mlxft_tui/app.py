"""The application: it follows one run, keeps the recipe's model open, and shows five places."""

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
from mlxft_tui.terminal.keys_in_turn import KeysInTurn
from mlxft_tui.terminal.painting import Painter
from mlxft_tui.text.theme import DARK, LIGHT
from mlxft_tui.widgets.remappable import Remappable

if TYPE_CHECKING:
    from textual.command import Provider

    from mlxft.data.dataset import SplitName
    from mlxft.data.token_figures import TokenFigures
    from mlxft.engine.protocol import AnyCommand, ModelOpened
    from mlxft.telemetry.sample import Sample
    from mlxft.telemetry.sampler import Sampler

LOOK_SECONDS = 0.5
"""Time between two readings of the followed run's journal: each may change much of the screen,
which costs the training next to it, and a thin link."""

MANY_LINES = 50_000
"""Records from which checking them all takes longer than a moment."""

UNREADABLE = "mlxft-tui can't read its terminal any more; a running training goes on."

NO_MODEL = "No model is chosen; set model on the Recipe screen (2)."

MACHINE_SECONDS = 2.0
"""How often the machine is sampled while no engine does it."""


def _named_themes() -> type[Provider]:
    from mlxft_tui.frame.palette import NamedThemes

    return NamedThemes


class MlxftApp(Remappable, KeysInTurn, keys="app"):
    """The viewer and controller of one project folder."""

    CSS_PATH = "app.tcss"
    TITLE = "mlxft-tui"
    DEFAULT_MODE = "data"
    BINDINGS: ClassVar[list[BindingType]] = [*APP_BINDINGS]
    COMMANDS = KeysInTurn.COMMANDS | {_named_themes}

    _last_words = ""
    """What is said on the terminal after the end."""

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
        self._complaint = ""
        try:
            self._recipe = recipe or self.session.kept_recipe()
        except RecipeError as error:
            self._recipe, self._complaint = Recipe(), str(error)
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
        for place in SCREENS:
            self.add_mode(place.mode, partial(self._new_place, place.mode))
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        if connection.is_remote():
            self.animation_level = "none"

    async def on_mount(self) -> None:
        crash.log_to_file()
        if not self.is_headless:
            connection.spell_missing_signs()
            connection.on_hangup_and_termination(self._leave)
            connection.watch()
        self._publish()
        if self._complaint:
            self._complain(self._complaint)
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        """What may wait until the first screen is painted."""
        if self._followed is not None:
            self._follow(self._followed)
        else:
            self._follow_last_run()
        self._look_at_data()
        self._open_model()
        self._sample_machine()
        if not self.is_headless:
            garbage.settle()

    async def on_unmount(self) -> None:
        await self.session.close()

    # What the terminal is sent

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        if isinstance(renderable, CompositorUpdate):
            renderable = self._painter.painted(renderable, self.size)
        super()._display(screen, renderable)

    def on_resize(self) -> None:
        """Paint all again, also where the size is as before: the terminal may have changed twice
        meanwhile, or was used by another."""
        self._painter.forget()
        if self.screen_stack:
            self.screen.refresh()

    def action_redraw(self) -> None:
        """Send the whole screen again, in case the terminal has lost some of it."""
        self._painter.forget()
        self.refresh(layout=True)

    # Places

    def _new_place(self, mode: str) -> AppScreen:
        """A place; its module is imported when it is first shown."""
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
        """Show a place."""
        if mode == self.current_mode:
            return
        with self.batch_update():
            await self.switch_mode(mode)
            self._publish()
        self._look_at_data()

    def _publish(self) -> None:
        """Push the state down to the place in view; another gets it when it is shown."""
        # While the application ends its screens lose their widgets one by one.
        place = next(iter(self.screen_stack), None) if self.is_running else None
        if isinstance(place, AppScreen) and place.is_mounted:
            place.recipe = self._recipe
            place.run = self._run
            is_coming = self._followed is not None and self._run is None
            place.coming = self._followed.name if self._followed and is_coming else ""
            place.model = self._model
            place.model_progress = self._model_progress
            place.machine = self._machine
            place.refused = self._refused
            place.data = self._data
            place.tokens = self._tokens

    # The followed run and the machine

    def _follow_anew(self, directory: RunDirectory) -> None:
        if self._run is None or self._run.directory != directory:
            self._run = None
        self._followed = directory
        self._follow(directory)

    @work(exclusive=True, group="follow")
    async def _follow_last_run(self) -> None:
        """Whoever opens a folder shall see the run at work in it, or else the newest."""
        found = await asyncio.to_thread(self.session.run_to_show)
        if found is not None:
            self._follow_anew(found)

    @work(exclusive=True, group="follow")
    async def _follow(self, directory: RunDirectory, patience: float = START_SECONDS) -> None:
        follower = Follower(directory, patience)
        while directory.recipe_file.is_file():
            found = await asyncio.to_thread(follower.look)
            if found is not None:
                self._run = found
                if found.view.machine is not None and found.live:
                    self._machine = found.view.machine.sample
                self._publish()
                self._look_at_tokens()
            await asyncio.sleep(LOOK_SECONDS)
        if self._run is not None and self._run.directory == directory:
            self.notify(f"{printable_line(directory.name)} was deleted.")
        self._forget(directory)

    def _forget(self, directory: RunDirectory) -> None:
        """Follow another run in place of one that was deleted."""
        if self._followed == directory:
            self._followed = self._run = None
            self._publish()
            self._follow_last_run()

    @work(exclusive=True, group="machine")
    async def _sample_machine(self) -> None:
        """The machine's figures while no engine writes them into a journal."""
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
        self._look_at_data()
        self._look_at_tokens()

    def _look_at_data(self) -> None:
        """Read the data folder if it is another one, or if its files were changed."""
        folder = self.session.data(self._recipe)
        stamp = (folder, self._recipe.columns, folder_view.stamp(folder))
        if stamp != self._data_stamp:
            self._data_stamp = stamp
            self._read_data(folder, self._recipe)

    @work(thread=True, exclusive=True, group="data")
    def _read_data(self, folder: Path, recipe: Recipe) -> None:
        worker = get_current_worker()

        def tell(view: DataView) -> None:
            if not worker.is_cancelled:
                self.post_message(DataRead(view))

        try:
            if not folder.exists() and folder != self.session.path(recipe.data):
                tell(folder_view.without_records(folder, f"Looking for {recipe.data} on the hub …"))
                self.session.fetch_data(recipe)
        except MlxftError as error:
            tell(folder_view.without_records(folder, str(error)))
        else:
            folder_view.read(folder, recipe.columns, tell, lambda: worker.is_cancelled)

    @on(DataRead)
    def _data_read(self, message: DataRead) -> None:
        if message.view.folder == self.session.data(self._recipe):
            self._data = message.view
            self._publish()
            self._look_at_tokens()

    def _look_at_tokens(self) -> None:
        """Measure the data in tokens if it, the model or what decides of the recipe is another."""
        if self._data is None:
            return
        live = self._run is not None and self._run.live
        wanted = (self._data_stamp, token_settings(self._recipe), self._model, live)
        if wanted != self._tokens_of:
            self._tokens_of = wanted
            self._measure_tokens(self._data, self._recipe, whole=not live)

    @work(exclusive=True, group="tokens")
    async def _measure_tokens(self, data: DataView, recipe: Recipe, whole: bool) -> None:
        """A live run is not held up by more than samples."""
        await asyncio.sleep(token_lengths.SETTLE_SECONDS)
        self._tokens = await asyncio.to_thread(token_lengths.kept, data, recipe)
        self._publish()
        if self._model is None:
            return
        with contextlib.suppress(EngineError):  # The preview of a record tells the reason.
            async for found in token_lengths.measured(self.session, data, recipe, whole=whole):
                self._tokens = found
                self._publish()

    @work(exclusive=True, group="model")
    async def _open_model(self) -> None:
        """Have the model service make the recipe's model local and load its tokenizer."""
        from mlxft.engine.protocol import ModelOpened, OpenModel, Progressed

        self._model = None
        if not self._recipe.model:
            self._model_is(NO_MODEL)
            return
        self._model_is(ProgressMade(stage="waiting", done=0))
        try:
            client = await self.session.service()
            async for reply in client.stream(OpenModel(*_model_of(self._recipe))):
                if isinstance(reply, Progressed):
                    self._model_is(reply.progress)
                elif isinstance(reply, ModelOpened):
                    self._model = reply
                    self._model_is(None)
                    self._look_at_tokens()
        except MlxftError as error:
            self._model_is(str(error))

    @on(ModelReopened)
    def _model_reopened(self, message: ModelReopened) -> None:
        """The chat has opened what was broken off here."""
        if self._model is None and _model_of(message.asked) == _model_of(self._recipe):
            self._model = message.opened
            self._model_is(None)
            self._look_at_tokens()

    def _model_is(self, progress: ProgressMade | str | None) -> None:
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
            self.session.keep(self._recipe)
            directory = self.session.new_run(self._recipe)
        except MlxftError as error:
            self._complain(error)
            return
        await self._launch(directory)

    async def _refuse_unusable_data(self) -> None:
        """Say at once what the engine would say, unless the data is too much to read twice."""
        if self._data is None or sum(split.lines for split in self._data.splits) < MANY_LINES:
            from mlxft.data.dataset import require_trainable

            folder = self.session.data(self._recipe)
            await asyncio.to_thread(require_trainable, folder, self._recipe)

    @on(ResumeRequested)
    def _resume_requested(self, message: ResumeRequested) -> None:
        # A key that is held down asks again while the engine starts.
        if message.directory != self._resuming:
            self._resuming = message.directory
            self._resume(message.directory, message.changes)

    @work(exclusive=True, group="launch")
    async def _resume(self, directory: RunDirectory, changes: Mapping[str, object]) -> None:
        try:
            self.session.change(directory, changes)
            await self._launch(directory)
        except MlxftError as error:
            self._complain(error)
        finally:
            if self._resuming == directory:
                self._resuming = None

    async def _launch(self, directory: RunDirectory) -> None:
        """Start an engine on the run, and show it from the first moment."""
        self._follow_anew(directory)
        await self.action_go("train")
        try:
            await asyncio.to_thread(self.session.launch, directory)
        except MlxftError as error:
            self._complain(error)
            self._follow(directory, patience=0)

    @on(RunChosen)
    async def _run_chosen(self, message: RunChosen) -> None:
        self._follow_anew(message.directory)
        await self.action_go("train")

    @on(CommandIssued)
    def _command_issued(self, message: CommandIssued) -> None:
        directory = message.directory or self._followed
        if directory is None:
            self._complain("There is no run to steer; start one on the Recipe screen (2).")
        else:
            self._send(directory, message.command)

    @work(group="commands")
    async def _send(self, directory: RunDirectory, command: AnyCommand) -> None:
        try:
            await (await self.session.engine(directory)).send(command)
        except MlxftError as error:
            self._complain(error)
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
            self._complain(error)
            return
        if self._followed == directory:
            self.workers.cancel_group(self, "follow")
        self._forget(directory)

    def _complain(self, problem: MlxftError | str) -> None:
        self.notify(printable_line(str(problem)), severity="error", timeout=12, markup=False)

    # Help, palette and leaving

    def action_help(self) -> None:
        """Show the keys that act here, those of the focused pane first."""
        from mlxft_tui.frame.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def action_command_palette(self) -> None:
        from mlxft_tui.frame.palette import Palette

        if not isinstance(self.screen, ModalScreen):
            self.push_screen(Palette())

    def search_themes(self) -> None:
        """Show all themes in a list."""
        from textual.theme import ThemeProvider

        from mlxft_tui.frame.palette import Palette

        self.push_screen(Palette(providers=[ThemeProvider], placeholder="Search for themes…"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for place in SCREENS:
            go = partial(self.run_action, f"go('{place.mode}')")
            yield SystemCommand(place.title, place.purpose, go)
        yield SystemCommand("Help", "The keys of this screen", self.action_help)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)
        yield SystemCommand("Screenshot", "Save this screen as SVG", self.deliver_screenshot)
        yield SystemCommand("Quit", "Leave; a run goes on", self.action_detach)

    def action_detach(self) -> None:
        """Leave, and say what goes on without the viewer."""
        self._leave(0)

    async def action_quit(self) -> None:
        self.action_detach()

    def _leave(self, code: int) -> None:
        if self._run is not None and self._run.live:
            name = printable_line(self._run.directory.name)
            back = invocation.command("attach")
            does = "is paused" if self._run.state == "paused" else "goes on"
            self._last_words = f"Run {name} {does}; {back} returns to it."
        self.exit(return_code=code)

    # Failure

    def _handle_exception(self, error: Exception) -> None:
        failure = error.error if isinstance(error, WorkerFailed) else error
        told = crash.record(failure)
        if not self._exit:
            self._last_words = told
            super()._handle_exception(error)
        # While the application ends its screens lose their widgets one by one.

    def _fatal_error(self) -> None:
        self.panic()

    def panic(self, *renderables: RenderableType) -> None:
        """Leave with one sentence; what would have been printed is in the log."""
        self._last_words = self._last_words or UNREADABLE
        self._return_code = self._return_code or 1
        super().panic()

    def _print_error_renderables(self) -> None:
        """Say the last words as they are: a path that is broken over lines can't be copied."""
        if self._last_words:
            print(self._last_words, file=sys.stderr)


def _model_of(recipe: Recipe) -> tuple[str, bool]:
    return recipe.model, recipe.trust_remote_code


def _new_sampler() -> Sampler:
    from mlxft.telemetry.sampler import Sampler

    return Sampler()

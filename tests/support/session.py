"""The application and its screens without the processes they would start."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.message import Message
from textual.pilot import Pilot
from textual.worker import Worker, WorkerCancelled

import mlxft_tui
from mlxft.conversation.messages import Sampling
from mlxft.engine.protocol import (
    AnyCommand,
    AnyReply,
    MeasureTokens,
    ModelOpened,
    OpenModel,
    Preview,
    Previewed,
    Progressed,
    TokensMeasured,
)
from mlxft.errors import EngineError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import BackendReady, ProgressMade
from mlxft_tui.app import MlxftApp
from mlxft_tui.frame.keys import APP_BINDINGS
from mlxft_tui.frame.messages import (
    CommandIssued,
    RecipeChanged,
    ResumeRequested,
    TrainingRequested,
)
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.session import Session
from mlxft_tui.text.stylesheet import RememberingStylesheet
from mlxft_tui.text.theme import DARK
from support.records import SMOLLM2, token_figures, token_view

ENDING = (
    *("data", "model", "history", "preview", "tokens", "launch", "commands"),
    *("look", "details", "labels"),
)
"""The groups of workers that end by themselves."""


SIZES = [(80, 24), (120, 40), (200, 60)]


RECIPE = Recipe(model="models/SmolLM2-135M-Instruct", learning_rate=2e-4, iters=225)


Opened = Callable[..., MlxftApp]


class ScriptedService:
    """Answers as a model service would, from what it was given."""

    def __init__(self) -> None:
        self.commands: list[AnyCommand] = []
        self.model: OpenModel | None = None
        self.refusal = ""
        self.sampling = Sampling()
        """What a model's makers advise."""
        self.progress: ProgressMade | None = None
        """The progress at which opening a model stops."""

    async def stream(self, command: AnyCommand) -> AsyncIterator[AnyReply]:
        self.commands.append(command)
        if self.refusal:
            raise EngineError(self.refusal)
        if isinstance(command, OpenModel):
            self.model = command
            if self.progress:
                yield Progressed(id=1, progress=self.progress)
                return
            backend = BackendReady(device="Apple M3 Pro", kind="metal", memory_limit=14_000_000_000)
            yield ModelOpened(
                id=1,
                path=command.model,
                config=SMOLLM2,
                has_chat_template=True,
                backend=backend,
                sampling=self.sampling,
            )
        if isinstance(command, Preview):
            yield Previewed(id=1, view=token_view(command))
        if isinstance(command, MeasureTokens):
            yield TokensMeasured(id=1, figures=token_figures(command), share=1.0)


class QuietSession(Session):
    """A session that starts no process; what it was asked to start is remembered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.scripted = ScriptedService()
        self.launched: list[RunDirectory] = []
        self.sent: list[tuple[RunDirectory, AnyCommand]] = []

    async def service(self) -> ScriptedService:  # type: ignore[override]
        return self.scripted

    async def exporter(self) -> ScriptedService:  # type: ignore[override]
        return self.scripted

    def launch(self, directory: RunDirectory) -> None:
        self.launched.append(directory)

    def supervise(self) -> None:
        """Whatever waits in the queue stays there."""


def place(app: MlxftApp) -> AppScreen:
    """The place in view, below any question or help."""
    found = app.screen_stack[0]
    assert isinstance(found, AppScreen)
    return found


def words(app: MlxftApp, pane: str = "Screen") -> str:
    """What is on the screen, or in one pane of it, as words without frames and line ends."""
    region = app.screen.query_one(pane).region if pane != "Screen" else app.screen.region
    lines = screen_text(app).splitlines()[region.y : region.bottom]
    cut = " ".join(line[region.x : region.right] for line in lines)
    return " ".join(re.sub("[╭╮╰╯─│▌]", " ", cut).split())


def session(app: MlxftApp) -> QuietSession:
    """The application's session, to see what it was asked."""
    assert isinstance(app.session, QuietSession)
    return app.session


async def settled(pilot: Pilot[None], *groups: str) -> None:
    """Wait until the workers of these groups, or of those that end by themselves, are done."""
    wanted = groups or ENDING
    # The last message of a worker may start another, so twice nothing must be left.
    quiet = 0
    while quiet < 2:
        await pilot.pause()
        waiting = [each for each in pilot.app.workers if _unfinished(each, wanted)]
        quiet = 0 if waiting else quiet + 1
        if waiting:
            with contextlib.suppress(WorkerCancelled):
                await pilot.app.workers.wait_for_complete(waiting)


def _unfinished(worker: Worker[object], groups: tuple[str, ...]) -> bool:
    return worker.group in groups and not worker.is_finished


class ScreenApp(App[None]):
    """One place in the application's frame and colours; records what it requests."""

    CSS_PATH = Path(mlxft_tui.__file__).parent / "app" / "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*APP_BINDINGS]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, place: AppScreen, **state: object) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.stylesheet = RememberingStylesheet(variables=self.get_css_variables())
        self.animation_level = "none"
        self.place = place
        self.asked: list[AnyCommand | Message] = []
        self.gone: list[str] = []
        self.recipes: list[Recipe] = []
        """What the place has made of the recipe."""
        self.notices: list[str] = []
        """The notifications so far."""
        self.state = state

    def notify(self, message: str, **options: Any) -> None:
        self.notices.append(message)
        super().notify(message, **options)

    async def on_mount(self) -> None:
        await self.push_screen(self.place)
        self.publish(**self.state)

    def publish(self, **state: object) -> None:
        """Push state down to the place, as the application does."""
        if isinstance(recipe := state.get("recipe"), Recipe):
            self.place.session.edits.start(recipe)
        for name, value in state.items():
            setattr(self.place, name, value)

    def action_go(self, mode: str) -> None:
        """Remember where one wanted to go."""
        self.gone.append(mode)

    def on_command_issued(self, message: CommandIssued) -> None:
        self.asked.append(message.command)

    def on_recipe_changed(self, message: RecipeChanged) -> None:
        self.recipes.append(self.place.session.edits.recipe)

    def on_training_requested(self, message: TrainingRequested) -> None:
        self.asked.append(message)

    def on_resume_requested(self, message: ResumeRequested) -> None:
        self.asked.append(message)


def screen_text(app: App[None]) -> str:
    """What is on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())

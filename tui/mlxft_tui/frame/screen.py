"""The base of the five screens: the frame around them and the state they show."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from textual import actions, events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.reactive import var
from textual.screen import Screen
from textual.widgets._toast import ToastRack

from mlxft import recipe as recipes
from mlxft.recipe import Recipe
from mlxft.runs.followed import FollowedRun
from mlxft_tui.frame.key_bar import KeyBar
from mlxft_tui.frame.messages import RecipeChanged
from mlxft_tui.frame.run_bar import RunBar, RunLineWriter
from mlxft_tui.frame.screen_bar import ScreenBar
from mlxft_tui.frame.small_view import SmallView, log_lines
from mlxft_tui.widgets.notices import inform
from mlxft_tui.widgets.remappable import Remappable, bindings_of, shown_key

if TYPE_CHECKING:
    from mlxft.data.folder_view import DataView
    from mlxft.data.split_files import SplitName
    from mlxft.data.token_figures import TokenFigures
    from mlxft.engine.protocol import ModelOpened
    from mlxft.runs.events import ProgressMade
    from mlxft.telemetry.sample import Sample
    from mlxft_tui.frame.pending import Refused
    from mlxft_tui.session import Session

LOG_LINES = 24
"""Log lines kept for the small view."""


class AppScreen(Remappable, Screen[None], keys="screen"):
    """A screen reached by one key; the application sets its reactives when state changes.

    Subclasses override `compose_body` and ``watch_…`` methods and post messages up. Stylesheets
    may use one width class (``-narrow`` from 80 columns, ``-normal`` from 120, ``-wide`` from 200)
    and one height class (``-low`` from 24 rows, ``-high`` from 40); below that the body is hidden.
    """

    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"),
        (40, "-small"),
        (80, "-narrow"),
        (120, "-normal"),
        (200, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"),
        (12, "-small"),
        (24, "-low"),
        (40, "-high"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Next pane", show=False, id="next_pane"),
        Binding("shift+tab", "app.focus_previous", "Previous pane", show=False, id="previous_pane"),
    ]

    NO_MODEL: ClassVar[str] = ""
    """What the run bar says here where no model is set, if not what it says elsewhere."""

    recipe: var[Recipe] = var(Recipe)
    run: var[FollowedRun | None] = var(None)
    loading_run: var[str] = var("")
    """The followed run's name while its journal is being read."""
    model: var[ModelOpened | None] = var(None)
    """The recipe's model; None while it is opening or if that failed."""
    model_progress: var[ProgressMade | str | None] = var(None)
    """How far opening the model is, or why it failed."""
    machine: var[Sample | None] = var(None)
    refused: var[Refused | None] = var(None)
    """The latest command that no engine accepted."""
    data: var[DataView | None] = var(None)
    """The recipe's data folder, as far as it has been read."""
    tokens: var[Mapping[SplitName, TokenFigures]] = var(dict)
    """Token figures of each split, as far as measured."""
    tokens_problem: var[str] = var("")
    """Why the data can't be measured in tokens."""

    clock: Callable[[], float] = time.time
    """The clock of the journal, in seconds."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.shows_own_edit = False
        """Whether the application has yet to hear of the recipe shown here."""
        self._run_line = RunLineWriter()

    def compose(self) -> ComposeResult:
        yield ScreenBar(self.session.folder)
        yield RunBar()
        yield SmallView()
        with Container(id="body"):
            yield from self.compose_body()
        yield KeyBar()

    @on(events.ScreenSuspend)
    def _hide_notices(self) -> None:
        """A dialog above this screen shows the notices again, in another place."""
        for each in self.query(ToastRack):
            each.display = False

    @on(events.ScreenResume)
    def _show_notices(self) -> None:
        for each in self.query(ToastRack):
            each.display = True

    def why_disabled(self, action: str) -> str:
        """Why `check_action` disables an action; shown when its key is pressed."""
        return f"There is nothing to {action}." if action in ("undo", "redo") else ""

    def on_key(self, event: events.Key) -> None:
        """Explain why a disabled key does nothing."""
        for binding in bindings_of(self, event.key):
            _, action, parameters = actions.parse(binding.action)
            if self.check_action(action, parameters) is None and (why := self.why_disabled(action)):
                inform(self, why)

    def change_recipe(self, recipe: Recipe) -> None:
        """Edit the project's recipe; it is in its file at once."""
        self.session.edits.change(recipe)
        self._show_edits()

    def set_parameter(self, key: str, value: object) -> None:
        """Set one parameter of the recipe as it is now, whatever this screen shows.

        Raises `RecipeError`.
        """
        self.change_recipe(recipes.replace(self.session.edits.recipe, key, value))

    def action_undo(self) -> None:
        self.session.edits.undo()
        self._show_edits()

    def action_redo(self) -> None:
        self.session.edits.redo()
        self._show_edits()

    def _show_edits(self) -> None:
        # Here at once, so that the next of several quick keys builds on it.
        self.recipe = self.session.edits.recipe
        self.shows_own_edit = True
        self.post_message(RecipeChanged(self._hear))

    def _hear(self) -> None:
        self.shows_own_edit = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "undo":
                return True if self.session.edits.can_undo else None
            case "redo":
                return True if self.session.edits.can_redo else None
            case _:
                return super().check_action(action, parameters)

    def compose_body(self) -> ComposeResult:
        """The screen's own widgets, between run bar and key bar."""
        yield from ()

    def _watch_run(self) -> None:
        self._write_run_line()
        view = self.run.view if self.run else None
        self.query_one(SmallView).lines = log_lines(view.log, LOG_LINES) if view else ()

    def _watch_loading_run(self) -> None:
        self._write_run_line()

    def _watch_recipe(self) -> None:
        self._write_run_line()

    def _watch_model_progress(self) -> None:
        self._write_run_line()

    def _write_run_line(self) -> None:
        run, opening = self.run, self.model_progress
        if run:
            key = shown_key(self, "go.recipe", "2")
            line = self._run_line.of_run(
                run.recipe, run.view, run.state, self.clock(), opening, recipe_key=key
            )
        else:
            if self.NO_MODEL and not self.recipe.model:
                opening = self.NO_MODEL
            line = self._run_line.of_recipe(self.recipe, opening, self.loading_run)
        self.query_one(RunBar).line = line

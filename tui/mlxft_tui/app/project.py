"""The project behind the application: its state, and the work that changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import App

from mlxft.recipe import Recipe
from mlxft_tui.app.context import Context
from mlxft_tui.app.data_reader import DataReader
from mlxft_tui.app.engines import Engines
from mlxft_tui.app.follower import RunFollower
from mlxft_tui.app.model import ModelOpener
from mlxft_tui.session import Session

if TYPE_CHECKING:
    from mlxft.runs.directory import RunDirectory


class Project:
    """The recipe, data, model, followed run and engines of a project folder."""

    def __init__(
        self, app: App[None], session: Session, recipe: Recipe, follow: RunDirectory | None
    ) -> None:
        self.context = context = Context(app, session, recipe)
        self.session = session
        self.state = context.state
        self.data = DataReader(context)
        self.model = ModelOpener(context, self.data)
        self.runs = RunFollower(context, self.data, follow)
        self.engines = Engines(context, self.runs)

    def start(self) -> None:
        """Start the workers."""
        self.runs.start()
        self.data.refresh()
        self.model.open()

    def change_recipe(self, recipe: Recipe) -> None:
        """Use the edited recipe."""
        before, self.state.recipe = self.state.recipe, recipe
        self.context.publish()
        if self.model.differs(before):
            self.model.open()
        self.data.refresh()
        self.data.refresh_tokens()

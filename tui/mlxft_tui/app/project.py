"""The project behind the application: its state, and the work that changes it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from textual.app import App

from mlxft import recipe as recipes
from mlxft.errors import MlxftError
from mlxft.recipe import Recipe
from mlxft.text.printable import printable_line
from mlxft_tui.app.context import Context
from mlxft_tui.app.data_reader import DataReader
from mlxft_tui.app.engines import Engines
from mlxft_tui.app.exports import Exports
from mlxft_tui.app.follower import RunFollower
from mlxft_tui.app.model import ModelOpener
from mlxft_tui.app.model_choice import ModelChoice
from mlxft_tui.app.run_signals import signal_runs
from mlxft_tui.app.sweeps import Sweeps
from mlxft_tui.session import Session
from mlxft_tui.widgets.notices import SENTENCE_SECONDS, inform

if TYPE_CHECKING:
    from mlxft.runs.directory import RunDirectory
    from mlxft_tui.app.doctor import Doctor

FOLLOW_SECONDS: Final = 2.0
"""Time between two looks at the recipe's file."""

QUEUE_SECONDS: Final = 5.0
"""Time between two checks that somebody works through the queue."""


class Project:
    """The recipe, data, model, followed run and engines of a project folder."""

    def __init__(self, app: App[None], session: Session, follow: RunDirectory | None) -> None:
        self.context = context = Context(app, session, session.edits.recipe)
        self.session = session
        self.state = context.state
        self.data = DataReader(context)
        self.model = ModelOpener(context, self.data)
        self.runs = RunFollower(context, self.data, follow)
        self.engines = Engines(context, self.runs)
        self.exports = Exports(context)
        self.sweeps = Sweeps(context, self.engines)
        self._doctor: Doctor | None = None
        self.model_choice = ModelChoice(context, self.show_edits)
        self._problem = ""
        self._kept_copy: Path | None = None

    def start(self) -> None:
        """Start the workers."""
        self.runs.start()
        self.data.refresh()
        self.model.open()
        self.context.run_in_background(self._follow_recipe_file, group="recipe")
        self.context.run_in_background(self._supervise, group="supervise")
        self.context.run_in_background(partial(signal_runs, self.context), group="signals")

    @property
    def doctor(self) -> Doctor:
        """The doctor, imported when it is first needed."""
        if self._doctor is None:
            from mlxft_tui.app.doctor import Doctor

            self._doctor = Doctor(self.context)
        return self._doctor

    async def close(self) -> None:
        """Cancel a self-test and end the engines of this viewer."""
        if self._doctor is not None:
            self._doctor.close()
        await self.session.close()

    def show_edits(self) -> None:
        """Show the edited recipe, and say once what became of its file."""
        edits = self.session.edits
        self.show_recipe(edits.recipe)
        if edits.problem and edits.problem != self._problem:
            self.context.show_error(
                f"{edits.problem} Until that is fixed, edits are lost when you quit."
            )
        if edits.kept_copy and edits.kept_copy != self._kept_copy:
            name = printable_line(edits.kept_copy.name)
            note = f"The recipe.yaml that was there is kept as {name}."
            inform(self.context.app, note, seconds=SENTENCE_SECONDS)
        self._problem, self._kept_copy = edits.problem, edits.kept_copy

    def would_be_lost(self) -> str:
        """What a quit would lose: edits that can't be saved, an export, a self-test; or empty."""
        if self.session.edits.problem:
            self.session.edits.write(durable=True)
        if not self.session.edits.problem and (name := self.exports.running):
            return f"The export of {name} is running; quitting cancels it."
        if not self.session.edits.problem and self._doctor is not None and self._doctor.running:
            return "The self-test is running; quitting cancels it."
        return self.session.edits.problem

    def show_recipe(self, recipe: Recipe) -> None:
        """Show a recipe on all screens, with its data and model."""
        before, self.state.recipe = self.state.recipe, recipe
        # Other data are read while the screens show the recipe.
        self.data.refresh()
        self.context.publish()
        if self.model.differs(before):
            self.model.open()
        self.data.refresh_tokens()

    async def _follow_recipe_file(self) -> None:
        """Show what another program, or another window of this one, changes in the recipe."""
        edits = self.session.edits
        # Imports what writing needs, for which the first edit would wait.
        await asyncio.to_thread(recipes.dump, edits.recipe)
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            has_other_text = await asyncio.to_thread(edits.has_other_text)
            is_previewing = self.state.recipe != edits.recipe
            if has_other_text and not is_previewing and edits.follow_file():
                self.show_edits()

    async def _supervise(self) -> None:
        """Start the queue's supervisor again if it was killed, or after a reboot."""
        problem = ""
        while True:
            try:
                await asyncio.to_thread(self.session.supervise)
            except MlxftError as error:
                if str(error) != problem:
                    problem = str(error)
                    self.context.show_error(error)
            await asyncio.sleep(QUEUE_SECONDS)

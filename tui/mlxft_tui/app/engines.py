"""Start, resume, command and delete runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mlxft.engine.machine import refuse_if_training
from mlxft.errors import MlxftError, ModelError
from mlxft.text.printable import printable_line
from mlxft_tui.app.model import NO_MODEL
from mlxft_tui.frame.pending import Refused
from mlxft_tui.widgets.notices import inform
from mlxft_tui.widgets.remappable import with_keys

if TYPE_CHECKING:
    from mlxft.engine.protocol import AnyCommand
    from mlxft.recipe import Recipe
    from mlxft.runs.directory import RunDirectory
    from mlxft_tui.app.context import Context
    from mlxft_tui.app.follower import RunFollower

MANY_LINES = 50_000
"""Records above which checking all of them takes noticeable time."""


class Engines:
    """Launches and commands the engines of the project's runs."""

    def __init__(self, context: Context, runs: RunFollower) -> None:
        self._context = context
        self._runs = runs
        self._resuming: RunDirectory | None = None

    def train(self) -> None:
        """Start a run with the current recipe."""
        self._resuming = None
        self._context.run_in_background(self._train, group="launch")

    def enqueue(self) -> None:
        """Add a run of the current recipe to the queue."""
        # In turn: a held key adds several.
        self._context.run_in_background(self._enqueue, group="launch", exclusive=False)

    def resume(self, directory: RunDirectory, changes: Mapping[str, object]) -> None:
        """Resume a run with changed recipe values."""
        # A held key repeats while the engine starts.
        if directory != self._resuming:
            self._resuming = directory
            resuming = partial(self._resume, directory, changes)
            self._context.run_in_background(resuming, group="launch")

    def command(self, directory: RunDirectory | None, command: AnyCommand) -> None:
        """Send a command to a run's engine, by default the followed run's."""
        directory = directory or self._runs.directory
        if directory is None:
            hint = "No run to control; start one on the Recipe screen ({go.recipe})."
            self._context.show_error(with_keys(self._context.app, hint))
        else:
            self._context.run_in_background(
                partial(self._send, directory, command), group="commands", exclusive=False
            )

    def delete(self, directories: Sequence[RunDirectory]) -> None:
        """Delete runs, one after the other."""
        self._context.run_in_background(
            partial(self._delete, directories), group="commands", exclusive=False
        )

    async def _train(self) -> None:
        session = self._context.session
        try:
            refuse_if_training(session.adapters)
            directory = session.new_run(await self.startable_recipe())
        except MlxftError as error:
            self._context.show_error(error)
            return
        await self._launch(directory, is_new=True)

    async def _enqueue(self) -> None:
        app, session = self._context.app, self._context.session
        try:
            entry = await asyncio.to_thread(session.enqueue, await self.startable_recipe())
        except MlxftError as error:
            self._context.show_error(error)
            return
        waits = f"{printable_line(entry.directory.name)} waits in the queue; "
        shown = with_keys(app, "{runs.queue=w} on Runs ({go.runs}) shows it.")
        inform(app, waits + shown)

    async def startable_recipe(self) -> Recipe:
        """The current recipe, checked and written. Raises `MlxftError` if it can't be trained."""
        session = self._context.session
        recipe = session.edits.recipe
        if not recipe.model:
            raise ModelError(with_keys(self._context.app, NO_MODEL))
        await self._refuse_unusable_data(recipe)
        await asyncio.to_thread(session.refuse_unusable_start, recipe)
        session.edits.write(durable=True)
        return recipe

    async def _refuse_unusable_data(self, recipe: Recipe) -> None:
        """Check the data as the engine will, unless it is too large to read twice."""
        data = self._context.state.data
        if data is None or sum(split.lines for split in data.splits) < MANY_LINES:
            from mlxft.data.dataset import require_trainable

            folder = self._context.session.data(recipe)
            await asyncio.to_thread(require_trainable, folder, recipe)

    async def _resume(self, directory: RunDirectory, changes: Mapping[str, object]) -> None:
        try:
            self._context.session.change(directory, changes)
            await self._launch(directory)
        except MlxftError as error:
            self._context.show_error(error)
        finally:
            if self._resuming == directory:
                self._resuming = None

    async def _launch(self, directory: RunDirectory, *, is_new: bool = False) -> None:
        """Start an engine on the run and show it immediately."""
        self._runs.switch(directory, is_new=is_new)
        await self._context.app.run_action("go('train')")
        try:
            await asyncio.to_thread(self._context.session.launch, directory)
        except MlxftError as error:
            self._context.show_error(error)
            self._runs.expect_engine(directory, patience=0)

    async def _send(self, directory: RunDirectory, command: AnyCommand) -> None:
        try:
            await (await self._context.session.engine(directory)).send(command)
        except MlxftError as error:
            self._context.show_error(error)
            self._context.state.refused = Refused(command)
            self._context.publish()

    async def _delete(self, directories: Sequence[RunDirectory]) -> None:
        for directory in directories:
            try:
                await asyncio.to_thread(self._context.session.delete, directory)
            except MlxftError as error:
                self._context.show_error(error)
                return
            self._runs.stop(directory)
            self._runs.forget(directory)

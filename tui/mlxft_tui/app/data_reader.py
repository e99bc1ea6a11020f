"""The recipe's data: read in a thread, then measured in tokens."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.worker import get_current_worker

from mlxft.data import folder_view
from mlxft.errors import EngineError, MlxftError
from mlxft.recipe import Recipe, token_settings
from mlxft_tui.data import token_lengths
from mlxft_tui.frame.messages import DataRead

if TYPE_CHECKING:
    from mlxft.data.folder_view import DataView
    from mlxft_tui.app.context import Context


class DataReader:
    """Keeps the data and its token figures up to date with files, recipe and model."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._read_stamp: object = None
        """Folder, columns and file stamps of the latest read."""
        self._measured_for: object = None
        """Everything that the token figures depend on."""

    def refresh(self) -> None:
        """Read the data if another folder was chosen or its files changed."""
        recipe = self._context.state.recipe
        folder = self._context.session.data(recipe)
        stamp = (folder, recipe.columns, folder_view.stamp(folder))
        if stamp != self._read_stamp:
            self._read_stamp = stamp
            self._context.app.run_worker(
                partial(self._read, folder, recipe), group="data", exclusive=True, thread=True
            )

    def _read(self, folder: Path, recipe: Recipe) -> None:
        worker = get_current_worker()

        def report(view: DataView) -> None:
            if not worker.is_cancelled:
                self._context.app.post_message(DataRead(view))

        session = self._context.session
        try:
            if not folder.exists() and folder != session.path(recipe.data):
                searching = f"Looking for {recipe.data} on the hub …"
                report(folder_view.without_records(folder, searching))
                session.fetch_data(recipe)
        except MlxftError as error:
            report(folder_view.without_records(folder, str(error)))
        else:
            folder_view.read(folder, recipe.columns, report, lambda: worker.is_cancelled)

    def receive(self, view: DataView) -> None:
        """Take what has been read so far."""
        if view.folder == self._context.session.data(self._context.state.recipe):
            self._context.state.data = view
            self._context.publish()
            self.refresh_tokens()

    def refresh_tokens(self) -> None:
        """Measure the data in tokens again if data, model or relevant recipe values changed."""
        state = self._context.state
        # After a change of folder the data in view are still the ones before.
        if state.data is None or state.data.folder != self._context.session.data(state.recipe):
            return
        live = state.run is not None and state.run.live
        files = tuple(each.path for each in state.data.splits if each.places is not None)
        wanted = (self._read_stamp, files, token_settings(state.recipe), state.model, live)
        if wanted != self._measured_for:
            self._measured_for = wanted
            measuring = partial(self._measure, state.data, state.recipe, whole=not live)
            self._context.run_in_background(measuring, group="tokens")

    async def _measure(self, data: DataView, recipe: Recipe, *, whole: bool) -> None:
        """Measure a sample, or with `whole` all records, which would slow a live run."""
        context = self._context
        await asyncio.sleep(token_lengths.SETTLE_SECONDS)
        context.state.tokens_problem = ""
        context.state.tokens = await asyncio.to_thread(token_lengths.kept, data, recipe)
        context.publish()
        if context.state.model is None:
            return
        try:
            async for found in token_lengths.measured(context.session, data, recipe, whole=whole):
                context.state.tokens = found
                context.publish()
        except EngineError as error:
            context.state.tokens_problem = f"The records can't be measured in tokens: {error}"
            context.show_error(context.state.tokens_problem)
            context.publish()

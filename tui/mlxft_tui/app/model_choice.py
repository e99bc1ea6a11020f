"""Opens the dialog to choose the recipe's model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlxft import recipe as recipes
from mlxft.hub.listed import this_machine
from mlxft_tui.app.downloads import ModelDownloads

if TYPE_CHECKING:
    from mlxft_tui.app.context import Context


class ModelChoice:
    """Has the recipe's model chosen; downloads continue when the dialog is closed."""

    def __init__(self, context: Context, show_edits: Callable[[], None]) -> None:
        self._context = context
        self._show_edits = show_edits
        self.downloads = ModelDownloads(context)

    def request(self) -> None:
        """Open the dialog."""
        self._context.run_in_background(self._ask, group="model-choice")

    async def _ask(self) -> None:
        from mlxft_tui.models.picker import ModelPicker

        session = self._context.session
        recipe = session.edits.recipe
        machine = await asyncio.to_thread(this_machine, recipe)
        picker = ModelPicker(session.folder, machine, self.downloads, recipe.model)
        self._context.app.push_screen(picker, self._choose)

    def _choose(self, name: str | None) -> None:
        edits = self._context.session.edits
        if name and name != edits.recipe.model:
            edits.change(recipes.replace(edits.recipe, "model", name))
            self._show_edits()

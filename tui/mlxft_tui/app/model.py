"""The recipe's model, opened by the model service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlxft.engine.protocol import ModelOpened, OpenModel, Progressed
from mlxft.errors import MlxftError
from mlxft.runs.events import ProgressMade
from mlxft_tui.widgets.remappable import with_keys

if TYPE_CHECKING:
    from mlxft.recipe import Recipe
    from mlxft_tui.app.context import Context
    from mlxft_tui.app.data_reader import DataReader

NO_MODEL = "No model selected; set it on the Recipe screen ({go.recipe})."


class ModelOpener:
    """Has the model service download the recipe's model and load its tokenizer."""

    def __init__(self, context: Context, data: DataReader) -> None:
        self._context = context
        self._data = data

    def differs(self, recipe: Recipe) -> bool:
        """Whether a recipe has another model than the current one."""
        return _opening(recipe) != _opening(self._context.state.recipe)

    def open(self) -> None:
        """Open the recipe's model."""
        self._context.run_in_background(self._open, group="model")

    def reopened(self, recipe: Recipe, model: ModelOpened) -> None:
        """Use a model that the chat has opened after its opening was cancelled here."""
        if self._context.state.model is None and not self.differs(recipe):
            self._set_opened(model)

    async def _open(self) -> None:
        state = self._context.state
        state.model = None
        if not state.recipe.model:
            self._set_progress(with_keys(self._context.app, NO_MODEL))
            return
        self._set_progress(ProgressMade(stage="waiting", done=0))
        try:
            client = await self._context.session.service()
            async for reply in client.stream(_opening(state.recipe)):
                if isinstance(reply, Progressed):
                    self._set_progress(reply.progress)
                elif isinstance(reply, ModelOpened):
                    self._set_opened(reply)
        except MlxftError as error:
            self._set_progress(str(error))

    def _set_opened(self, model: ModelOpened) -> None:
        self._context.state.model = model
        self._set_progress(None)
        self._data.refresh_tokens()

    def _set_progress(self, progress: ProgressMade | str | None) -> None:
        self._context.state.model_progress = progress
        self._context.publish()


def _opening(recipe: Recipe) -> OpenModel:
    return OpenModel(recipe.model, recipe.trust_remote_code)

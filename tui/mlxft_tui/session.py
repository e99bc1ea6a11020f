"""A project's folder and the engines this viewer talks to; no widget and no event loop of its own."""

from __future__ import annotations

from pathlib import Path

from mlxft.engine.client import EngineClient
from mlxft.engine.launch import ModelService, launch_training
from mlxft.errors import EngineError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory, create


class Session:
    """The engines of one viewer: its model service, and the engine of the run it follows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.adapters = folder / "adapters"
        self._service = ModelService()
        self._engine: EngineClient | None = None
        self._followed: RunDirectory | None = None

    async def service(self) -> EngineClient:
        """The model service's client; started at the first call, and again if it has died."""
        return await self._service.client()

    async def engine(self, directory: RunDirectory) -> EngineClient:
        """The control of a live run. Raises `EngineError` if no engine is at work on it."""
        if self._engine is None or self._followed != directory or self._engine.closed:
            if self._engine is not None:
                await self._engine.close()
            self._engine = await EngineClient.connect(directory.socket_file)
            self._followed = directory
        return self._engine

    def train(self, recipe: Recipe) -> RunDirectory:
        """Make a run and start its engine; the engine outlives this viewer."""
        model = Path(recipe.model).name or "run"
        directory = create(self.adapters, recipe, f"{model}-{recipe.fine_tune_type}")
        launch_training(directory)
        return directory

    def resume(self, directory: RunDirectory) -> None:
        """Start an engine again on a run that has a checkpoint. Raises `EngineError`."""
        if directory.is_live():
            raise EngineError(f"{directory.name}: an engine is at work on it; attach instead.")
        launch_training(directory)

    async def close(self) -> None:
        """Leave: runs go on, the model service ends."""
        if self._engine is not None:
            await self._engine.close()
        await self._service.close()

"""A project's folder and the engines this viewer talks to; it knows no widget."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.engine.client import EngineClient
from mlxft.engine.launch import ModelService, launch_training
from mlxft.errors import EngineError, RecipeError, StorageError
from mlxft.paths import expanded
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory, create
from mlxft.text import figures


def engine_gone(directory: RunDirectory) -> str:
    """What is said of a run's engine that has ended, and how to go on."""
    return (
        f"The engine of {directory.name} has gone; {figures.short_path(directory.log_file)} may "
        "say why, and r on the Train screen (3) resumes a run that hasn't finished."
    )


class Session:
    """The engines of one viewer: its model service, and the engine of the run it follows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.adapters = folder / "adapters"
        self.recipe_file = folder / "recipe.yaml"
        """Where the recipe being edited is kept."""
        self._service = ModelService(folder)
        self._engine: EngineClient | None = None
        self._followed: RunDirectory | None = None

    def kept_recipe(self) -> Recipe:
        """The folder's recipe, or the defaults with the newest run's model and data.

        Raises `RecipeError` if the folder's recipe can't be read.
        """
        if self.recipe_file.is_file():
            return recipes.load(self.recipe_file)
        newest = self._newest_run()
        try:
            last = newest.recipe() if newest else Recipe()
        except RecipeError:
            return Recipe()
        return recipes.from_mapping({"model": last.model, "data": last.data})

    def keep(self, recipe: Recipe) -> None:
        """Write the recipe into the folder. Raises `StorageError`."""
        recipes.save(recipe, self.recipe_file)

    def keep_columns(self, recipe: Recipe) -> None:
        """Remember the recipe's data and columns, and nothing else of it that is being edited.

        Raises `StorageError`, and `RecipeError` if the folder's recipe can't be read.
        """
        kept = self.kept_recipe() if self.recipe_file.is_file() else recipe
        kept = recipes.replace(kept, "data", recipe.data)
        self.keep(recipes.replace(kept, "columns", recipe.columns))

    def path(self, text: str) -> Path:
        """A recipe's path, which may be relative to the folder."""
        return self.folder / expanded(text)

    def data(self, recipe: Recipe) -> Path:
        """A recipe's folder or file of records; that of a hub set once `fetch_data` was called."""
        from mlxft.data import hub

        if hub.is_hub_id(recipe.data, self.folder):
            return hub.folder_of(recipe.data)
        return self.path(recipe.data)

    def fetch_data(self, recipe: Recipe) -> None:
        """Have a hub set on this machine; takes its time at the first call. Raises `DataError`."""
        from mlxft.data import hub

        if hub.is_hub_id(recipe.data, self.folder):
            hub.fetched(recipe.data)

    def run_to_show(self) -> RunDirectory | None:
        """The run of this folder that an engine is at work on, or else the newest."""
        return next((run for run in self.runs() if run.is_live()), None) or self._newest_run()

    def _newest_run(self) -> RunDirectory | None:
        return max(self.runs(), key=lambda run: run.recipe_file.stat().st_mtime, default=None)

    async def service(self) -> EngineClient:
        """The model service's client; started at the first call, and again if it has died."""
        return await self._service.client()

    async def engine(self, directory: RunDirectory) -> EngineClient:
        """The control of a live run. Raises `EngineError` if no engine is at work on it."""
        if self._engine is None or self._followed != directory or self._engine.closed:
            if self._engine is not None:
                await self._engine.close()
            self._engine = await EngineClient.connect(
                directory.socket_file, gone=engine_gone(directory)
            )
            self._followed = directory
        return self._engine

    def new_run(self, recipe: Recipe) -> RunDirectory:
        """Make a run's directory; its engine is started by `launch`.

        The run's recipe names its places in full, so that it can be resumed from anywhere.
        Raises `StorageError`.
        """
        anchored = recipes.replace(recipe, "data", str(self.data(recipe).resolve()))
        if self.path(recipe.model).is_dir():
            model = str(self.path(recipe.model).resolve())
            anchored = recipes.replace(anchored, "model", model)
        if recipe.resume_adapter_file:
            adapter = str(self.path(recipe.resume_adapter_file).resolve())
            anchored = recipes.replace(anchored, "resume_adapter_file", adapter)
        name = Path(recipe.model).name or "run"
        return create(self.adapters.resolve(), anchored, f"{name}-{recipe.fine_tune_type}")

    def change(self, directory: RunDirectory, changes: Mapping[str, object]) -> None:
        """Give a run that no engine is at work on new values of its recipe, by key.

        Raises `RunError` while one is, `RecipeError` and `StorageError`.
        """
        if not changes:
            return
        with directory.locked():
            recipe = directory.recipe()
            for key, value in changes.items():
                recipe = recipes.replace(recipe, key, value)
            recipes.save(recipe, directory.recipe_file)

    def launch(self, directory: RunDirectory) -> None:
        """Start an engine on a run, fresh or with a checkpoint; it outlives this viewer.

        Takes seconds. Raises `EngineError`.
        """
        if directory.is_live():
            raise EngineError(f"{directory.name}: an engine is at work on it; attach instead.")
        launch_training(directory)

    def delete(self, directory: RunDirectory) -> None:
        """Remove a run with its adapters and checkpoints.

        Raises `RunError` while an engine is at work on it, and `StorageError`.
        """
        with directory.locked():
            try:
                shutil.rmtree(directory.path)
            except OSError as error:
                raise StorageError(
                    f"{directory.path}: the run can't be deleted ({error.strerror})."
                ) from None

    async def close(self) -> None:
        """Leave: runs go on, the model service ends."""
        if self._engine is not None:
            await self._engine.close()
        await self._service.close()

    def runs(self) -> Iterator[RunDirectory]:
        """The runs of this folder, in no order."""
        if self.adapters.is_dir():
            for path in self.adapters.iterdir():
                if (path / "recipe.yaml").is_file():
                    yield RunDirectory(path)

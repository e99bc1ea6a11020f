"""A new run of a project, whose recipe can be trained and resumed from any folder."""

from __future__ import annotations

from pathlib import Path

from mlxft import recipe as recipes
from mlxft.data import hub
from mlxft.hosts import hosts_of
from mlxft.hosts.named import is_hostfile
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory, create
from mlxft.storage.imported_models import SUFFIX, is_gguf
from mlxft.storage.paths import expanded


def new_run(project: Path, recipe: Recipe, *, queued: bool = False) -> RunDirectory:
    """Create a run's directory in a project; a `queued` one is no run yet.

    Its recipe has absolute paths. Raises `StorageError`, and `RecipeError` for a hostfile that
    can't be used, before anything is made.
    """
    name = Path(recipe.model).name.removesuffix(SUFFIX) or "run"
    recipe = absolute(project, recipe)
    hosts_of(recipe.hosts)
    kind = f"{name}-{recipe.fine_tune_type}"
    root = (project / "adapters").resolve()
    return create(root, recipe, kind, queued=queued)


def absolute(project: Path, recipe: Recipe) -> Recipe:
    """The recipe with absolute paths in place of those relative to the project."""

    def place(text: str) -> Path:
        return project / expanded(text)

    found = recipes.replace(recipe, "data", str(data_of(project, recipe).resolve()))
    if place(recipe.model).is_dir() or is_gguf(place(recipe.model)):
        found = recipes.replace(found, "model", str(place(recipe.model).resolve()))
    if recipe.resume_adapter_file:
        adapter = str(place(recipe.resume_adapter_file).resolve())
        found = recipes.replace(found, "resume_adapter_file", adapter)
    template = recipe.template.file
    if template is not None and place(str(template)).is_file():
        found = recipes.replace(found, "chat_template", str(place(str(template)).resolve()))
    if isinstance(recipe.hosts, str) and is_hostfile(recipe.hosts):
        found = recipes.replace(found, "hosts", str(place(recipe.hosts).resolve()))
    return found


def data_of(project: Path, recipe: Recipe) -> Path:
    """The recipe's data folder or file; for a hub dataset, valid once it is fetched."""
    if hub.is_hub_id(recipe.data, project):
        return hub.folder_of(recipe.data)
    return project / expanded(recipe.data)

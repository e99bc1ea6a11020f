"""Finds the adapter that a command line names: a run, one of its files, or any other's folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.adapters.files import AdapterFiles, adapter_files, is_adapter
from mlxft.errors import RecipeError, RunError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.history import places


@dataclass(frozen=True, kw_only=True)
class FoundAdapter:
    """An adapter on disk and what it was trained on."""

    name: str
    path: Path
    """Its folder or weights file; absolute, since engines start elsewhere."""
    recipe: Recipe
    """How it was trained, as far as its folder says."""
    is_run: bool
    """Whether it belongs to a run of ours, whose recipe names its data."""

    @property
    def run(self) -> RunDirectory | None:
        """The run whose latest adapter it is; None for an earlier or a foreign one."""
        run = RunDirectory(self.path if self.path.is_dir() else self.path.parent)
        is_latest = self.path in (run.path, run.adapter_file)
        return run if self.is_run and is_latest and run.recipe_file.is_file() else None


def find_adapter(root: Path, name: str) -> FoundAdapter:
    """An adapter by a run's name or by a path; `root` is the project's adapters folder.

    Raises `RunError` where there is none, `ModelError` and `RecipeError` for unreadable files.
    """
    for place in places(root, name):
        if (run := _run_of(place)) is not None:
            name = str(place.resolve().relative_to(run.path.parent))
            return FoundAdapter(name=name, path=place.resolve(), recipe=run.recipe(), is_run=True)
        if is_adapter(place):
            return _foreign(place, adapter_files(place))
    raise RunError(
        f"{name}: this is neither a run in {root} nor the folder of an adapter; mlxft-tui runs "
        "lists the runs."
    )


def _run_of(place: Path) -> RunDirectory | None:
    """The run that a folder or an adapter's file belongs to."""
    folder = place if place.is_dir() else place.parent
    run = folder.resolve().parent.parent if folder.parent.name == "checkpoints" else folder
    if not (run / "recipe.yaml").is_file() or not (place.is_dir() or is_adapter(place)):
        return None
    return RunDirectory(run.resolve())


def _foreign(place: Path, files: AdapterFiles) -> FoundAdapter:
    """An adapter from elsewhere; what of its config is no recipe's is passed over."""
    recipe = Recipe()
    with contextlib.suppress(RecipeError):
        if not files.is_peft:
            recipe = recipes.from_mapping(files.config)
    recipe = recipes.replace(recipe, "model", files.model)
    path = place.resolve()
    return FoundAdapter(name=path.name, path=path, recipe=recipe, is_run=False)

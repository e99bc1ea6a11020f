"""How runs differ: in their recipes, and in data, versions and machine."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import mlxft
from mlxft import recipe as recipes
from mlxft.comparison.table import RunRow
from mlxft.data.fingerprint import fingerprint
from mlxft.data.split_files import SplitName, split_file
from mlxft.errors import RecipeError
from mlxft.recipe import PARAMETERS, Recipe
from mlxft.recipe.value_text import value_text
from mlxft.runs.new_run import absolute, data_of
from mlxft.text import figures
from mlxft.text.printable import printable_line

Kind = Literal["recipe", "data", "version", "machine"]

NAMES: Final = ("run_name", "project_name")
"""Parameters that say nothing about the training."""

_PATHS: Final = frozenset({"data", "model", "resume_adapter_file", "chat_template"})
"""Parameters whose value may be a path, which a recipe may write relative to its project."""

_SPLITS: Final[tuple[SplitName, ...]] = ("train", "valid")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a run trained with, or would train with now; empty for what isn't known."""

    recipe: Mapping[str, Any]
    """Values by key; those of defaults may be left out."""
    fingerprints: Mapping[str, str]
    versions: Mapping[str, str]
    host: str
    device: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something in which runs differ, with its value in each of them, None where unknown."""

    kind: Kind
    name: str
    values: tuple[Any, ...]

    @property
    def label(self) -> str:
        """What differs, for people."""
        words = {"data": f"{self.name} data", "version": f"{self.name} version"}
        return words.get(self.kind, self.name)

    @property
    def texts(self) -> tuple[str, ...]:
        """The values for people."""
        return tuple(self._text(each) for each in self.values)

    def mapping(self, names: Sequence[str]) -> dict[str, Any]:
        """The values by the names of what is compared, for JSON."""
        values = dict(zip(names, self.values, strict=True))
        return {"kind": self.kind, "name": self.name, "values": values}

    def _text(self, value: Any) -> str:
        if self.kind == "recipe":
            return printable_line(figures.shown_path(value_text(PARAMETERS[self.name], value)))
        return printable_line(str(value)) if value else figures.NONE


def circumstances(row: RunRow) -> Circumstances:
    """What a run's latest session trained with."""
    said = row.summary
    return Circumstances(
        recipe=_in_project(
            row.directory.path.absolute().parent.parent,
            {key: row.value(key) for key in said.recipe or {}},
        ),
        fingerprints=said.fingerprints,
        versions=said.versions,
        host=said.host,
        device=said.device,
    )


def circumstances_now(recipe: Recipe, project: Path) -> Circumstances:
    """What a recipe of a project would train with; reads the data once."""
    data = data_of(project, recipe)
    values = {key: recipes.get(recipe, key) for key in PARAMETERS}
    return Circumstances(
        recipe=_in_project(project, values),
        fingerprints={name: fingerprint(split_file(data, name)) for name in _SPLITS},
        versions=versions_now(),
        host=platform.node(),
    )


def _in_project(project: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values with absolute paths, as a run of the project has them."""
    recipe = Recipe()
    try:
        for key in _PATHS & values.keys():
            recipe = recipes.replace(recipe, key, values[key])
        found = absolute(project, recipe)
    except RecipeError:  # Of another version.
        return dict(values)
    return {**values, **{key: recipes.get(found, key) for key in _PATHS}}


def versions_now() -> dict[str, str]:
    """The versions that a run would record."""
    found = {"mlxft-tui": mlxft.__version__, "python": platform.python_version()}
    for name in ("mlx", "mlx-lm"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def differences(compared: Sequence[Circumstances]) -> tuple[Difference, ...]:
    """Everything in which they differ: recipe, data, versions, then the machine.

    What only one of them knows is no difference, except of the recipe, which all know.
    """
    found = [*_of_recipes([each.recipe for each in compared])]
    found += _of_mappings("data", [each.fingerprints for each in compared])
    found += _of_mappings("version", [each.versions for each in compared])
    found += _of_mappings(
        "machine", [{"host": each.host, "device": each.device} for each in compared]
    )
    return tuple(found)


def recipe_differences(rows: Sequence[RunRow]) -> tuple[Difference, ...]:
    """The parameters in which runs differ, in the order of the form."""
    return tuple(_of_recipes([circumstances(row).recipe for row in rows]))


def _of_recipes(compared: Sequence[Mapping[str, Any]]) -> list[Difference]:
    found = []
    for key, parameter in PARAMETERS.items():
        values = tuple(each.get(key, parameter.default) for each in compared)
        if key not in NAMES and any(each != values[0] for each in values[1:]):
            found.append(Difference(kind="recipe", name=key, values=values))
    return found


def _of_mappings(kind: Kind, compared: Sequence[Mapping[str, str]]) -> list[Difference]:
    found = []
    for name in dict.fromkeys(key for each in compared for key in each):
        values = tuple(each.get(name) or None for each in compared)
        if len({each for each in values if each is not None}) > 1:
            found.append(Difference(kind=kind, name=name, values=values))
    return found

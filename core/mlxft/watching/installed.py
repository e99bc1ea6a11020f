"""Whether the libraries of the services are installed that a recipe reports to."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from mlxft import recipe as recipes
from mlxft.advice.types import Advice
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe

MODULES: Final = {
    "tensorboard": "tensorboardX",
    "trackio": "trackio",
    "wandb": "wandb",
    "swanlab": "swanlab",
}
"""The module of each service, which is also its package's name."""


def missing(recipe: Recipe) -> tuple[str, ...]:
    """The services that ``report_to`` names and whose library isn't installed."""
    names = recipes.tracker_names(recipe.report_to)
    return tuple(name for name in names if find_spec(MODULES[name]) is None)


def refuse_missing(recipe: Recipe) -> None:
    """Raise `RecipeError` with the command that installs what ``report_to`` needs."""
    packages = [MODULES[name] for name in missing(recipe)]
    if packages:
        verb = "is" if len(packages) == 1 else "are"
        raise RecipeError(
            f"report_to is {recipe.report_to}, but {' and '.join(packages)} {verb} not installed; "
            f"run pip install {' '.join(packages)}, or leave report_to empty."
        )


def missing_advice(recipe: Recipe) -> list[Advice]:
    """What to do about it before the start; its change leaves those services out."""
    names = missing(recipe)
    if not names:
        return []
    kept = [each for each in recipes.tracker_names(recipe.report_to) if each not in names]
    packages = " ".join(MODULES[name] for name in names)
    message = f"Run pip install {packages}, or leave {' and '.join(names)} out of report_to."
    change = ("report_to", ",".join(kept) or None)
    return [Advice("reporting", message, "the run would be refused", change)]

"""Whether the libraries of the services are installed that a recipe reports to."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe

MODULES: Final = {
    "tensorboard": "tensorboardX",
    "trackio": "trackio",
    "wandb": "wandb",
    "swanlab": "swanlab",
}
"""The module of each service, which is also its package's name."""


def refuse_missing(recipe: Recipe) -> None:
    """Raise `RecipeError` with the command that installs what ``report_to`` needs."""
    names = recipes.tracker_names(recipe.report_to)
    missing = [MODULES[name] for name in names if find_spec(MODULES[name]) is None]
    if missing:
        package = " ".join(missing)
        raise RecipeError(
            f"report_to is {recipe.report_to}, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed; run pip install {package}, or "
            "leave report_to empty."
        )

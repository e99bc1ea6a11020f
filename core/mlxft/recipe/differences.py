"""How two recipes differ."""

from __future__ import annotations

from typing import Any

from mlxft import recipe as recipes
from mlxft.recipe import PARAMETERS, Recipe


def differences(a: Recipe, b: Recipe) -> dict[str, tuple[Any, Any]]:
    """Both values of each key in which the recipes differ, in the order of the form."""
    pairs = {key: (recipes.get(a, key), recipes.get(b, key)) for key in PARAMETERS}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}

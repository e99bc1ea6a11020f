"""A sweep's values of a parameter as people type them in a line."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Parameter, Recipe
from mlxft.recipe.yaml_text import parse_yaml
from mlxft.sweep.plan import Span
from mlxft.text import figures

SYNTAX: Final = "4, 8, 16 or 1e-5 to 1e-3 log, with a number of values after it in a grid"

_RANGE: Final = re.compile(r"(\S+)\s+to\s+([^\s,]+)[\s,]*(log|linear)?[\s,]*(\d+)?", re.I)


def parsed(parameter: Parameter, text: str) -> list[Any] | Span:
    """The values of a line: ``4, 8, 16``, ``1e-5 to 1e-3 log`` or ``1e-5 to 1e-3 log 5``.

    Raises `RecipeError` for values that the parameter can't have.
    """
    text = text.strip()
    if found := _RANGE.fullmatch(text):
        return _span(parameter, found)
    # A parameter whose values are lists or mappings has them in YAML's brackets.
    whole = parse_yaml(text, parameter.key) if text.startswith("[") else None
    given = whole if isinstance(whole, list) else text.split(",")
    values = [each.strip() if isinstance(each, str) else each for each in given]
    if values == [""] and not parameter.optional:
        raise RecipeError(f"{parameter.key} has no values; type {SYNTAX}.")
    return [recipes.check(parameter, each) for each in values]


def without_count(text: str) -> str:
    """The text of a range without its number of values, which only a grid has."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or not found[4]:
        return text
    return text.strip()[: found.start(4)].rstrip(" ,")


def _span(parameter: Parameter, found: re.Match[str]) -> Span:
    if parameter.kind not in ("int", "float"):
        raise RecipeError(f"{parameter.key} isn't a number; type its values, with commas between.")
    first, last = (float(recipes.check(parameter, each)) for each in found.group(1, 2))
    scale: Literal["linear", "log"] = "log" if (found[3] or "").lower() == "log" else "linear"
    return Span(first=first, last=last, scale=scale, count=int(found[4]) if found[4] else None)


def suggested(parameter: Parameter, recipe: Recipe) -> str:
    """Values to begin with: every choice, or the recipe's own and those a step around it."""
    if parameter.kind == "choice":
        return ", ".join(parameter.choices)
    if parameter.kind == "bool":
        return "on, off"
    own = recipes.get(recipe, parameter.key)
    around = [own]
    if parameter.steppable:
        steps: tuple[Literal[-1, 1], ...] = (-1, 1)
        moved = (
            recipes.get(recipes.step(recipe, parameter.key, each), parameter.key) for each in steps
        )
        around = sorted({own, *moved})
    if any(isinstance(each, list | tuple | dict) for each in around):
        return f"[{', '.join(map(str, around))}]"
    return ", ".join("" if each is None else written(each) for each in around)


def written(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return figures.learning_rate(value) if 0 < abs(value) < 0.01 else f"{value:g}"
    return str(value)

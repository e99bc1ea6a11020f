"""YAML text as values, with errors that name the place."""

from __future__ import annotations

from mlxft.errors import RecipeError


def parse_yaml(text: str, place: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise RecipeError(f"{place}: this is nested too deeply for a recipe.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise RecipeError(
            f"{place}{line}: this is not valid YAML; check indents and colons."
        ) from None

"""YAML text as values, with errors that name the place, and values as YAML text."""

from __future__ import annotations

import functools
import re
from typing import Any

from mlxft.errors import RecipeError


def parse_yaml(text: str, place: str) -> object:
    """The values of a YAML text; numbers without a point, as 1e-5, are numbers as in mlx-lm.

    Raises `RecipeError`.
    """
    import yaml

    try:
        return yaml.load(text, _loader())  # A safe loader.
    except RecursionError:
        raise RecipeError(f"{place}: this is nested too deeply for a recipe.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise RecipeError(
            f"{place}{line}: this is not valid YAML; check indents and colons."
        ) from None


def write_yaml(value: object) -> str:
    """The value as YAML; text that could be read as a number is quoted."""
    import yaml

    text: str = yaml.dump(value, Dumper=_dumper(), sort_keys=False, allow_unicode=True)
    return text


@functools.cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    return _with_short_numbers(Loader)


@functools.cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    return _with_short_numbers(Dumper)


def _with_short_numbers(kind: Any) -> Any:
    """PyYAML follows YAML 1.1, where a number with an exponent needs a point and a sign."""
    number = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
    kind.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return kind

"""A sweep's file, and the recipes of its points."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Parameter, Recipe
from mlxft.recipe.yaml_text import parse_yaml, write_yaml
from mlxft.storage.regular_files import read_config

MOST_POINTS: Final = 1000

_MOST: Final = 1e15
"""Above the ends of every range; a float has all whole numbers up to it."""

_MOST_CHARACTERS: Final = 80

_NAME: Final = re.compile(rf"[^\W_][\w.-]{{0,{_MOST_CHARACTERS - 1}}}")


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values from one to another, both included; equal steps, or equal factors with `log`."""

    first: float = msgspec.field(name="from")
    last: float = msgspec.field(name="to")
    count: int | None = None
    """None, of a search, is any value in between."""
    scale: Literal["linear", "log"] = "linear"


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points that are drawn one after the other until a budget is spent."""

    method: Literal["random", "tpe"]
    """`tpe`, a tree-structured Parzen estimator, draws more of what was good before."""
    runs: int | None = None
    hours: float | None = None
    """Of training; the run that passes them is the last."""
    seed: int = 0

    def has_same_points(self, other: Search | None) -> bool:
        """Whether another one draws the same points, until a budget is spent."""
        return other is not None and (self.method, self.seed) == (other.method, other.seed)


class Halving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Successive halving: all points train `first` steps, the best 1 / `factor` of them `factor`
    times as many, and so on up to the recipe's iters."""

    first: int
    factor: int = 2

    def rounds(self, iters: int) -> list[int]:
        """The steps after which each round ends."""
        found, until = list[int](), self.first
        while until * self.factor <= iters:
            found.append(until)
            until *= self.factor
        return [*found, iters]


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sweep's file: a recipe, and the values that its parameters take in turn."""

    recipe: str = "recipe.yaml"
    """Beside the sweep's file, if the path isn't absolute."""
    grid: dict[str, list[Any] | Span] = {}
    """Of which all combinations are trained."""
    space: dict[str, list[Any] | Span] = {}
    """From which a search draws."""
    search: Search | None = None
    name: str = ""
    """By default the file's, without its ending."""
    halving: Halving | None = None
    """None trains every point to its end."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of a sweep."""

    number: int
    values: Mapping[str, Any]
    """By the key of the parameter, as the recipe has them."""
    recipe: Recipe


def read_sweep(path: Path) -> Sweep:
    """A sweep from its file, with its name and the path of its recipe.

    Raises `RecipeError`.
    """
    try:
        text = read_config(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(f"{path}: the sweep can't be read ({reason}); check the path.") from None
    try:
        sweep = msgspec.convert(parse_yaml(text, str(path)), Sweep)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"{path}: {error}; a sweep has recipe, name and grid, or space and search, and these a "
            "list or a range of values for each parameter."
        ) from None
    name = sweep.name or path.stem
    if problem := name_problem(name):
        raise RecipeError(f"{path}: {problem}")
    recipe = str(path.resolve().parent / Path(sweep.recipe).expanduser())
    return msgspec.structs.replace(sweep, name=name, recipe=recipe)


def name_problem(name: str) -> str:
    """Why a sweep can't have a name, as a sentence; empty if it can."""
    if _NAME.fullmatch(name):
        return ""
    return (
        f"the name {name!r} must consist of at most {_MOST_CHARACTERS} letters, digits, dots, "
        "hyphens and underscores, and begin with a letter or a digit."
    )


def written(sweep: Sweep) -> str:
    """A sweep as the text of its file, without what is as by default."""
    mapping: dict[str, Any] = {"recipe": sweep.recipe, "name": sweep.name}
    for key, given in (("grid", sweep.grid), ("space", sweep.space)):
        if given:
            mapping[key] = {parameter: _builtins(axis) for parameter, axis in given.items()}
    for key, rule in (("search", sweep.search), ("halving", sweep.halving)):
        if rule is not None:
            mapping[key] = _builtins(rule)
    return write_yaml(mapping)


def _builtins(value: Any) -> Any:
    found = msgspec.to_builtins(value)
    if isinstance(found, dict):
        return {key: each for key, each in found.items() if each is not None}
    return found


def points(sweep: Sweep, base: Recipe) -> list[Point]:
    """Every combination of the values, the last parameter changing fastest.

    All have the recipe's seed, and so the same order of records, unless the grid changes that.
    Raises `RecipeError`.
    """
    if not sweep.grid:
        raise RecipeError("The sweep's grid is empty; give a parameter a list of values.")
    base = prepared(sweep, base)
    axes = {
        recipes.find(key).key: values_of(recipes.find(key), sweep.grid[key]) for key in sweep.grid
    }
    if math.prod(map(len, axes.values())) > MOST_POINTS:
        raise _too_many()
    return [
        point(sweep.name, number, dict(zip(axes, values, strict=True)), base)
        for number, values in enumerate(itertools.product(*axes.values()), 1)
    ]


def point(name: str, number: int, values: Mapping[str, Any], base: Recipe) -> Point:
    """A point of the sweep of this name. Raises `RecipeError`."""
    recipe = recipes.replace(base, "run_name", f"{name}-{number}")
    for key, value in values.items():
        recipe = recipes.replace(recipe, key, value)
    return Point(number=number, values=values, recipe=recipe)


def prepared(sweep: Sweep, base: Recipe) -> Recipe:
    """The recipe that all points begin with: with halving validated where a round ends.

    Raises `RecipeError`.
    """
    return base if sweep.halving is None else _halved(sweep, sweep.halving, base)


def _halved(sweep: Sweep, halving: Halving, base: Recipe) -> Recipe:
    """The base of a sweep with halving, validated where a round ends. Raises `RecipeError`."""
    if halving.first < 1 or halving.factor < 2:
        raise RecipeError("A sweep's halving has a first of 1 or more and a factor of 2 or more.")
    if halving.first * halving.factor > base.iters:
        raise RecipeError(
            f"A sweep's halving has a first of {halving.first}, which leaves no round; lower it to "
            f"{base.iters // halving.factor} or less, for iters {base.iters}."
        )
    if base.val_batches == 0:
        raise RecipeError("Halving compares validation losses; set the recipe's val_batches.")
    keys = {recipes.find(key).key for key in (*sweep.grid, *sweep.space)}
    if fixed := sorted(keys & {"iters", "steps_per_eval", "early_stopping", "val_batches"}):
        raise RecipeError(f"{fixed[0]} can't be swept with halving, which compares points by it.")
    if halving.first % base.steps_per_eval:
        base = recipes.replace(base, "steps_per_eval", halving.first)
    return base


def values_of(parameter: Parameter, axis: Sequence[Any] | Span) -> list[Any]:
    """An axis's values in the parameter's type, each once. Raises `RecipeError`."""
    if (axis.count or 0 if isinstance(axis, Span) else len(axis)) > MOST_POINTS:
        raise _too_many()
    raw = _spread(parameter, axis) if isinstance(axis, Span) else axis
    found: list[Any] = []
    for each in raw:
        value = recipes.check(parameter, each)
        if value not in found:
            found.append(value)
    if not found:
        raise RecipeError(f"{parameter.key} has no values in the sweep's grid; add some.")
    return found


def ends(parameter: Parameter, span: Span) -> tuple[float, float]:
    """Both ends of a range of numbers. Raises `RecipeError`."""
    if parameter.kind not in ("int", "float"):
        raise RecipeError(f"{parameter.key} isn't a number; give it a list of values in the sweep.")
    for end in (span.first, span.last):
        if not abs(end) < _MOST:
            raise RecipeError(
                f"{parameter.key}: a range in a sweep can't have an end of {end:g}; use numbers "
                f"below {_MOST:g}."
            )
    return span.first, span.last


def _too_many() -> RecipeError:
    return RecipeError(
        f"The sweep has more than {MOST_POINTS} points; shorten its lists or lower a count."
    )


def _spread(parameter: Parameter, span: Span) -> list[float]:
    first, last, count = *ends(parameter, span), span.count
    if count is None or count < 2 or (span.scale == "log" and min(first, last) <= 0):
        raise RecipeError(
            f"{parameter.key}: a range in a grid has a count of 2 or more, and with scale log only "
            "values above 0."
        )
    shares = [at / (count - 1) for at in range(count)]
    if span.scale == "log":
        found = [first * (last / first) ** share for share in shares]
    else:
        found = [first + (last - first) * share for share in shares]
    if parameter.kind == "int":
        return [round(each) for each in found]
    return [float(f"{each:.6g}") for each in found]

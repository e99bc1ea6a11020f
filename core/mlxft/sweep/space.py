"""What a search draws from: lists and ranges of parameters, checked before the first point."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Parameter, Recipe
from mlxft.sweep.plan import MOST_POINTS, Search, Span, Sweep, ends, values_of

COMPARED_BY: Final = frozenset({"val_batches", "loss", "data"})
"""With other values of these, validation losses of two runs can't be compared."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at a share from 0 up to 1 of the way."""
        return self.values[min(len(self.values) - 1, int(share * len(self.values)))]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Any value between two, both included."""

    first: float
    last: float
    is_log: bool = False
    is_int: bool = False

    def at(self, share: float) -> float:
        """The value at a share of the way, by logarithms where the range has them."""
        if self.is_log:
            found = self.first * (self.last / self.first) ** share
        else:
            found = self.first + (self.last - self.first) * share
        return self.rounded(found)

    def rounded(self, value: float) -> float:
        """A value as a recipe should have it: whole, or with six digits."""
        if self.is_int:
            return round(value)
        return min(max(float(f"{value:.6g}"), self.first), self.last)


Axis = Choice | Range
Space = Mapping[str, Axis]
"""The axes by the keys of their parameters."""


def space_of(given: Mapping[str, list[Any] | Span]) -> dict[str, Axis]:
    """The axes of a search. Raises `RecipeError`."""
    return {(found := recipes.find(key)).key: _axis(found, given[key]) for key in given}


def _axis(parameter: Parameter, given: Sequence[Any] | Span) -> Axis:
    if not isinstance(given, Span) or given.count is not None:
        return Choice(values=tuple(msgspec.to_builtins(values_of(parameter, given))))
    # Both ends are allowed, and so is what lies between them.
    first, last = sorted(float(recipes.check(parameter, each)) for each in ends(parameter, given))
    if first == last or (given.scale == "log" and first <= 0):
        raise RecipeError(
            f"{parameter.key}: a range in a sweep has two different ends, and with scale log only "
            "values above 0."
        )
    is_log, is_int = given.scale == "log", parameter.kind == "int"
    return Range(first=first, last=last, is_log=is_log, is_int=is_int)


def check_search(sweep: Sweep, base: Recipe) -> Search:
    """The search of a sweep that has a space, if it can be made. Raises `RecipeError`."""
    search = sweep.search
    if sweep.grid or not sweep.space or search is None:
        raise RecipeError(
            "A sweep has either a grid, or a space and a search; give one of them parameters."
        )
    if search.runs is None and search.hours is None:
        raise RecipeError("The search has no budget; give it runs, hours or both.")
    if search.runs is not None and not 1 <= search.runs <= MOST_POINTS:
        raise RecipeError(f"The search's runs must be between 1 and {MOST_POINTS}.")
    if search.hours is not None and not 0 < search.hours < math.inf:
        raise RecipeError("The search's hours must be above 0.")
    if search.seed < 0:
        raise RecipeError("The search's seed must be 0 or more.")
    if search.method == "tpe":
        _check_tpe(sweep, base)
    elif sweep.halving is not None and (search.runs is None or search.hours is not None):
        raise RecipeError(
            "Halving compares all points of a round, so its search has a budget in runs, not "
            "in hours."
        )
    return search


def _check_tpe(sweep: Sweep, base: Recipe) -> None:
    if sweep.halving is not None:
        raise RecipeError(
            "tpe learns from points that were trained to their end, so it has no halving; use "
            "random, or leave halving out."
        )
    if base.val_batches == 0:
        raise RecipeError("tpe compares validation losses; set the recipe's val_batches.")
    if found := sorted({recipes.find(key).key for key in sweep.space} & COMPARED_BY):
        raise RecipeError(
            f"{found[0]} can't be searched by tpe, since losses with other values of it can't be "
            "compared; use random or a grid."
        )


def samples(space: Space, count: int) -> list[dict[str, Any]]:
    """Points spread over a space, to estimate from: the same ones each time."""
    draw = random.Random(0)
    return [{key: axis.at(draw.random()) for key, axis in space.items()} for _ in range(count)]


def size(space: Space) -> float:
    """How many different points a space has; infinite with a range that isn't of whole numbers."""
    return math.prod(itertools.chain(map(_size, space.values()), [1]))


def _size(axis: Axis) -> float:
    if isinstance(axis, Choice):
        return len(axis.values)
    return axis.last - axis.first + 1 if axis.is_int else math.inf

"""What the dialog of a sweep holds: texts as typed, and the sweep that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.queue.sweeps import first_recipe
from mlxft.recipe import Recipe
from mlxft.sweep.axis_text import SYNTAX, parsed, suggested, without_count
from mlxft.sweep.plan import Halving, Search, Span, Sweep, name_problem

Method = Literal["grid", "random", "tpe"]

METHODS: Final[tuple[Method, ...]] = ("grid", "random", "tpe")

MEANINGS: Final[dict[Method, str]] = {
    "grid": "every combination of the values",
    "random": "points drawn by chance until the budget is spent",
    "tpe": "learns from the points before which ones to try",
}

FIELDS: Final = {
    "name": "the sweep's name, and its file's",
    "method": "",
    "runs": "how many runs at most; empty is any number",
    "hours": "of training, after which no run is added; empty is any number",
    "search_seed": "another one draws other points",
    "first": "steps before the best are chosen; empty trains all points to the end",
    "factor": "one in so many continues, for so many times the steps",
}
"""The rows above those of the parameters, with what they mean."""

LABELS: Final = {
    "search_seed": "search seed",
    "first": "halving from step",
    "factor": "halving factor",
}


@dataclass(frozen=True, kw_only=True)
class SweepForm:
    """The texts of a sweep."""

    name: str
    method: Method = "grid"
    runs: str = "12"
    hours: str = ""
    search_seed: str = "0"
    first: str = ""
    factor: str = "2"
    axes: Mapping[str, str] = field(default_factory=dict)
    """The values of each parameter by its key, as typed."""
    of_grid: Mapping[str, str] = field(default_factory=dict)
    """Those of the grid that another method has replaced, whose ranges have a number of values."""

    def rows(self) -> list[str]:
        """The rows that count with the method: fields, then keys of parameters."""
        hidden = {"runs", "hours", "search_seed"} if self.method == "grid" else set[str]()
        if self.method == "tpe":
            hidden |= {"first", "factor"}
        elif not self.first:
            hidden.add("factor")
        return [*(each for each in FIELDS if each not in hidden), *self.axes]

    def text(self, row: str) -> str:
        """What a row holds."""
        return self.axes[row] if row in self.axes else str(getattr(self, row))

    def with_text(self, row: str, text: str) -> SweepForm:
        """With another text in a row."""
        if row in self.axes:
            return replace(self, axes={**self.axes, row: text})
        changes: dict[str, Any] = {row: text.strip()}
        return replace(self, **changes)

    def with_parameter(self, key: str, recipe: Recipe) -> SweepForm:
        """With one more parameter, and values to begin with."""
        values = suggested(recipes.find(key), recipe)
        return replace(self, axes={**self.axes, key: self.axes.get(key, values)})

    def without(self, row: str) -> SweepForm:
        """Without a parameter."""
        return replace(self, axes={key: each for key, each in self.axes.items() if key != row})

    def stepped(self, by: Literal[-1, 1]) -> SweepForm:
        """With the next or previous method; ranges have a number of values in a grid only."""
        method = METHODS[(METHODS.index(self.method) + by) % len(METHODS)]
        if method == "grid":
            kept = {key: self.of_grid.get(key, "") for key in self.axes}
            axes = {
                key: kept[key] if without_count(kept[key]) == text else text
                for key, text in self.axes.items()
            }
            return replace(self, method=method, axes=axes, of_grid={})
        if self.method != "grid":
            return replace(self, method=method)
        axes = {key: without_count(text) for key, text in self.axes.items()}
        return replace(self, method=method, axes=axes, of_grid=self.axes)


@dataclass(frozen=True, kw_only=True)
class ReadForm:
    """The sweep that a form makes, or why it makes none."""

    sweep: Sweep | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    """By row; those of no row in particular under an empty name."""


def read_form(form: SweepForm, base: Recipe, taken: Callable[[str], str]) -> ReadForm:
    """The sweep of a form; `taken` says why a project can't have a name, or nothing."""
    problems: dict[str, str] = {}

    def read(row: str, convert: Callable[[str], Any]) -> Any:
        try:
            return convert(form.text(row)) if row in form.rows() else None
        except (RecipeError, ValueError) as error:
            problems[row] = str(error)
            return None

    if problem := name_problem(form.name) or taken(form.name):
        problems["name"] = problem
    runs, hours = read("runs", _whole), read("hours", _number)
    seed, first, factor = read("search_seed", _whole), read("first", _whole), read("factor", _whole)
    axes: dict[str, list[Any] | Span] = {}
    for key in form.axes:
        values = read(key, lambda text, key=key: parsed(recipes.find(key), text))  # type: ignore[misc]
        if values is not None:
            axes[key] = values
    if not form.axes:
        problems[""] = "Add a parameter to vary."
    if problems:
        return ReadForm(problems=problems)
    search = None
    if form.method != "grid":
        search = Search(method=form.method, runs=runs, hours=hours, seed=seed or 0)
    sweep = Sweep(
        recipe="recipe.yaml",
        name=form.name,
        grid={} if search else axes,
        space=axes if search else {},
        search=search,
        halving=None if first is None else Halving(first=first, factor=factor or 2),
    )
    try:
        first_recipe(sweep, base)
    except RecipeError as error:
        return ReadForm(problems={_row_of(str(error), form): str(error)})
    return ReadForm(sweep=sweep)


def _row_of(problem: str, form: SweepForm) -> str:
    """The row that a sentence about the whole sweep is about."""
    named = next((key for key in form.axes if problem.startswith(key)), None)
    if named is not None:
        return named
    about = {"halving": "first", "budget": "runs", "runs": "runs", "hours": "hours"}
    return next((row for word, row in about.items() if word in problem and row in form.rows()), "")


def _whole(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f"{text} is not a whole number.")
    return int(text)


def _number(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text} is not a number.") from None


def about(row: str, form: SweepForm) -> str:
    """What a row means."""
    if row in form.axes:
        return f"{recipes.find(row).declared.help} Type {SYNTAX}."
    return MEANINGS[form.method] if row == "method" else FIELDS[row]

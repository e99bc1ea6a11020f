"""What the recipe screen says: of a parameter, of what it costs, and of what differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from textual.content import Content

from mlxft import recipe as recipes
from mlxft.duration.expectation import Expectation
from mlxft.recipe import Parameter, Recipe
from mlxft.recipe.differences import differences
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.recipe.form import EPOCHS
from mlxft_tui.text.theme import MUTED
from mlxft_tui.text.values import value_text

if TYPE_CHECKING:
    from mlxft.advice.fit import Saving
    from mlxft.advice.types import Advice

UNEVEN = 1.05
"""The factor from which a spread is worth a word."""

MOST_NAME_CELLS = 40
"""Cells for the name of a run that a figure comes from."""

NARROW = 40
"""Cells below which nothing is indented."""

LONG_VALIDATION = 0.1
"""Share of a run's time from which its validations are worth a word."""


@dataclass(frozen=True)
class Neighbour:
    """A value's neighbour on its scale, and what it would cost more in bytes and seconds; None
    where that isn't known."""

    direction: Literal[-1, 1]
    value: str
    memory: int | None
    seconds: float | None


def problem_note(problem: str) -> Content:
    """What is wrong with the value being typed."""
    return Content.assemble(("✗ ", "bold $error"), (printable(problem), "$error"))


def parameter_note(
    parameter: Parameter, neighbours: Sequence[Neighbour], advice: Content, *, brief: bool = False
) -> Content:
    """What a parameter takes and does, and the advice; in brief its effects come last."""
    rule = "text" if parameter.kind == "text" else parameter.rule
    if parameter is not EPOCHS:
        default = value_text(parameter, parameter.default)
        rule += f"; the default is {default if default != figures.NONE else 'none'}"
    lines = [
        Content.assemble((parameter.name, "bold"), (f"  {rule}", MUTED)),
        Content(parameter.declared.help),
    ]
    effects = parameter.declared.effect.parts
    steps = [neighbours_line(neighbours)] if neighbours else []
    if brief:
        named = [Content.assemble((f"{name} ", MUTED), how) for name, how in effects]
        lines += [*steps, *([advice] if advice else []), Content("  ").join(named)]
    else:
        lines += [Content.assemble((name.ljust(9), MUTED), how) for name, how in effects]
        lines += [*steps, *([Content(""), advice] if advice else [])]
    return Content("\n").join(lines)


def neighbours_line(neighbours: Sequence[Neighbour]) -> Content:
    """What a step down and a step up would change."""
    parts = [
        Content.assemble(
            ("← " if each.direction < 0 else "→ ", "$primary"), each.value, (_costs(each), MUTED)
        )
        for each in neighbours
    ]
    return Content("   ").join(parts)


def _costs(neighbour: Neighbour) -> str:
    told = []
    if neighbour.memory is not None:
        told.append(signed(neighbour.memory, _bytes))
    if neighbour.seconds is not None:
        told.append(signed(neighbour.seconds, figures.duration))
    return f"  {', '.join(told)}" if told else ""


def _bytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{figures.gigabytes(size)} GB"


def signed(value: float, write: Callable[[float], str]) -> str:
    """A difference with its sign, or without one where it is too small to be written."""
    size = write(abs(value))
    if size == write(0):
        return size
    return f"{'−' if value < 0 else '+'}{size}"


def difference_note(heading: str, name: str, recipe: Recipe, base: Recipe) -> Content:
    """Each parameter that differs, with the other's value and the recipe's own."""
    title = Content.assemble((heading, MUTED), (printable_line(name), "bold"))
    changed = [
        Content.assemble(
            (parameter.name, "$accent"),
            f"  {value_text(parameter, theirs)} → {value_text(parameter, ours)}",
        )
        for key, (theirs, ours) in differences(base, recipe).items()
        for parameter in (recipes.find(key),)
    ]
    same = Content.styled("no difference", MUTED)
    return Content("\n").join([title, *(changed or [same])])


def fit_note(asked: Recipe, savings: Sequence[Saving]) -> Content:
    """What was changed so that a recipe fits, and what each change saves."""
    lines = [Content.assemble(("It fits with", "bold"), ("  u takes it back", MUTED))]
    for each in savings:
        parameter = recipes.find(each.key)
        before = value_text(parameter, recipes.get(asked, each.key))
        lines.append(
            Content.assemble(
                (parameter.name, "$accent"),
                f"  {before} → {value_text(parameter, each.value)}",
                (f"  −{figures.gigabytes(each.saved)} GB", "$success"),
            )
        )
    return Content("\n").join(lines)


def time_note(
    recipe: Recipe,
    steps_per_epoch: int | None,
    expected: Expectation | None,
    now: float,
    width: int,
) -> Content:
    """Steps, epochs and updates, how long that will take, and when it will be done."""
    indent = "" if width < NARROW else " " * 6
    seen = f"{figures.count(recipe.iters)} × {recipe.batch_size}"
    if steps_per_epoch:
        epochs = recipes.epochs_for_iters(recipe.iters, steps_per_epoch)
        seen += f" = {epochs:.3g} {'epoch' if epochs == 1 else 'epochs'}"
    if recipe.grad_accumulation_steps > 1:
        seen += f", {figures.count(recipes.updates(recipe))} updates"
    lines = [_labelled("steps", seen)]
    if expected is None:
        return Content("\n").join([*lines, _labelled("time", "known after a first run", MUTED)])
    speed = f"{figures.rate(expected.tokens_per_second)} tok/s"
    taken = f"{figures.duration(expected.seconds)} at {speed}"
    done = _clock(now + expected.seconds, now)
    least, most = expected.seconds / expected.spread, expected.seconds * expected.spread
    span = f"{figures.duration(least)} to {figures.duration(most)}"
    source = Content(printable_line(expected.source)).truncate(MOST_NAME_CELLS, ellipsis=True)
    lines.append(_labelled("time", taken))
    told = [span] if expected.spread > UNEVEN else []
    if expected.validating > LONG_VALIDATION * expected.seconds:
        told.append(f"{figures.duration(expected.validating)} of it to validate")
    told += [source.plain, f"done at {done}"]
    for line in wrapped(told, width - len(indent)):
        lines.append(Content.styled(indent + line, MUTED))
    return Content("\n").join(lines)


def _clock(end: float, now: float) -> str:
    """The time of day, with its day where that isn't today."""
    then, today = time.localtime(end), time.localtime(now)
    is_today = then[:3] == today[:3]
    return time.strftime("%H:%M" if is_today else "%a %d %b %H:%M", then)


def wrapped(parts: Sequence[str], width: int) -> list[str]:
    """As many parts in a line as there is room for, a comma between them."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _labelled(label: str, text: str, style: str = "") -> Content:
    return Content.assemble((label.ljust(6), MUTED), (text, style))


def advice_note(advice: Sequence[Advice], width: int | None) -> Content:
    """What to think about before starting, with its evidence; with a width the first in a line."""
    first = next((each for each in advice if each.change), None)
    lines = []
    for each in advice:
        key = "  a\u00a0applies\u00a0it" if each is first else ""
        apply = Content.styled(key, "$primary")
        shown = f" ({printable_line(each.evidence)})" if width is None else ""
        evidence = Content.styled(shown, MUTED)
        said = Content.assemble(("! ", "$warning"), each.message, evidence)
        if width is not None:
            said = said.truncate(width - apply.cell_length, ellipsis=True)
        lines.append(Content.assemble(said, apply))
    return Content("\n").join(lines if width is None else lines[:1])

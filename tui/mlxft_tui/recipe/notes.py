"""Texts beside the form: about a parameter, its costs, advice and differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from mlxft import recipe as recipes
from mlxft.duration.expectation import Expectation
from mlxft.recipe import Parameter, Recipe
from mlxft.recipe.differences import differences
from mlxft.recipe.value_text import value_text
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.recipe.costs import Costs, Neighbour
from mlxft_tui.recipe.form import EPOCHS
from mlxft_tui.recipe.memory_bar import MEASURING, memory_note
from mlxft_tui.text.cells import shortened
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.opening import opening_note

if TYPE_CHECKING:
    from mlxft.advice.fit import Saving
    from mlxft.advice.types import Advice
    from mlxft.runs.events import ProgressMade

NOTABLE_SPREAD = 1.05
"""Factor from which a spread is shown."""

RUN_NAME_CELLS = 40
"""The most cells for the source of a duration."""

NARROW = 40
"""Cells below which nothing is indented."""

LONG_VALIDATION = 0.1
"""Share of a run's time from which its validations are shown."""


def costs_note(
    costs: Costs,
    progress: ProgressMade | str | None,
    now: float,
    width: int,
    *,
    brief: bool,
    unmeasured: str = "",
) -> Content:
    """Memory and time of a recipe; `progress` is that of opening its model, or why it failed.

    `unmeasured` says why the data's lengths are unknown.
    """
    is_measuring = costs.awaits_tokens and not unmeasured and not isinstance(progress, str)
    expected = costs.duration
    duration = time_note(
        costs.recipe,
        costs.steps_per_epoch,
        expected,
        now,
        width,
        is_measuring=is_measuring and expected is not None,
    )
    gap = "\n" if brief else "\n\n"
    if isinstance(costs.shapes, str):
        return Content.assemble((printable(costs.shapes), "$error"), gap, duration)
    if costs.estimator is None or costs.estimate is None:
        return Content.assemble(opening_note("Memory", progress), gap, duration)
    memory = memory_note(
        costs.estimate,
        costs.assumptions(costs.estimator),
        width,
        brief=brief,
        refusal=_refusal(costs),
        is_measuring=is_measuring,
    )
    for problem in (unmeasured, progress if isinstance(progress, str) else ""):
        if problem:
            memory = Content.assemble(memory, ("\n! ", "bold $warning"), printable(problem))
    return Content.assemble(memory, gap, duration)


def _refusal(costs: Costs) -> str:
    """Why the run would be refused whatever its memory, in a few words."""
    if costs.too_few_records:
        return "too few records"
    return "no trained token" if costs.trains_nothing else ""


def problem_note(problem: str) -> Content:
    """What is wrong with the value being typed."""
    return Content.assemble(("✗ ", "bold $error"), (printable(problem), "$error"))


def parameter_note(
    parameter: Parameter, neighbours: Sequence[Neighbour], advice: Content, *, brief: bool = False
) -> Content:
    """A parameter's allowed values, help and effects, then the advice; in brief, advice first."""
    rule = parameter.short_rule
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
            ("← " if each.direction < 0 else "→ ", "$primary"), each.value, (_added(each), MUTED)
        )
        for each in neighbours
    ]
    return Content("   ").join(parts)


def _added(neighbour: Neighbour) -> str:
    added = []
    if neighbour.memory is not None:
        added.append(signed(neighbour.memory, _bytes))
    if neighbour.seconds is not None:
        added.append(signed(neighbour.seconds, figures.duration))
    return f"  {', '.join(added)}" if added else ""


def _bytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{figures.gigabytes(size)} GB"


def signed(value: float, write: Callable[[float], str]) -> str:
    """A difference with its sign; without one if it rounds to 0."""
    size = write(abs(value))
    if size == write(0):
        return size
    return f"{'−' if value < 0 else '+'}{size}"


def difference_note(heading: str, name: str, recipe: Recipe, base: Recipe) -> Content:
    """Each parameter that differs, with the base's value and the recipe's own."""
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


def fit_note(before: Recipe, savings: Sequence[Saving], undo: str) -> Content:
    """What was changed to make a recipe fit, what each change saves, and the key that undoes it."""
    lines = [Content.assemble(("It fits with", "bold"), (f"  {undo} undoes it", MUTED))]
    for each in savings:
        parameter = recipes.find(each.key)
        old = value_text(parameter, recipes.get(before, each.key))
        lines.append(
            Content.assemble(
                (parameter.name, "$accent"),
                f"  {old} → {value_text(parameter, each.value)}",
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
    *,
    is_measuring: bool = False,
) -> Content:
    """Steps, epochs and updates, their time, and when the run would end.

    The time is pending while the length of the records is being measured.
    """
    indent = "" if width < NARROW else " " * 6
    steps = f"{figures.count(recipe.iters)} × {recipe.batch_size}"
    if steps_per_epoch:
        epochs = recipes.epochs_for_iters(recipe.iters, steps_per_epoch)
        steps += f" = {figures.epochs(epochs)} {'epoch' if epochs == 1 else 'epochs'}"
    if recipe.grad_accumulation_steps > 1:
        steps += f", {figures.count(recipes.updates(recipe))} updates"
    lines = [_labelled("steps", steps)]
    if is_measuring:
        return Content("\n").join([*lines, _labelled("time", MEASURING, MUTED)])
    if expected is None:
        return Content("\n").join([*lines, _labelled("time", "known after a first run", MUTED)])
    speed = f"{figures.rate(expected.tokens_per_second)} tok/s"
    lines.append(_labelled("time", f"{figures.duration(expected.seconds)} at {speed}"))
    for line in wrapped(_time_details(expected, now), width - len(indent)):
        lines.append(Content.styled(indent + line, MUTED))
    return Content("\n").join(lines)


def _time_details(expected: Expectation, now: float) -> list[str]:
    """The range, the share of validations, the source and the end."""
    details = []
    if expected.spread > NOTABLE_SPREAD:
        least, most = expected.seconds / expected.spread, expected.seconds * expected.spread
        details.append(f"takes {figures.duration(least)} to {figures.duration(most)}")
    if expected.validating > LONG_VALIDATION * expected.seconds:
        details.append(f"{figures.duration(expected.validating)} validating")
    source = shortened(printable_line(expected.source), RUN_NAME_CELLS)
    return [*details, source, f"done at {_clock(now + expected.seconds, now)}"]


def _clock(end: float, now: float) -> str:
    """The time of day, with its day unless that is today."""
    then, today = time.localtime(end), time.localtime(now)
    is_today = then[:3] == today[:3]
    return time.strftime("%H:%M" if is_today else "%a %d %b %H:%M", then)


def wrapped(parts: Sequence[str], width: int) -> list[str]:
    """Parts joined by commas, as many per line as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _labelled(label: str, text: str, style: str = "") -> Content:
    return Content.assemble((label.ljust(6), MUTED), (text, style))


def advice_note(advice: Sequence[Advice], width: int | None, *, apply: str, data: str) -> Content:
    """All advice with its evidence; with a width only the first, in one line.

    `apply` is the key that applies the first change, `data` the one of the Data screen.
    """
    first = next((each for each in advice if each.change), None)
    lines = []
    for each in advice:
        key = f"  {apply}\u00a0applies\u00a0it" if each is first else ""
        if each.records_listed:
            key = f"  {data}\u00a0lists\u00a0them"
        hint = Content.styled(key, "$primary")
        shown = f" ({printable_line(each.evidence)})" if width is None else ""
        evidence = Content.styled(shown, MUTED)
        message = Content.assemble(("! ", "$warning"), each.message, evidence)
        if width is not None:
            message = message.truncate(width - hint.cell_length, ellipsis=True)
        lines.append(Content.assemble(message, hint))
    return Content("\n").join(lines if width is None else lines[:1])

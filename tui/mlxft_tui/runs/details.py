"""What the pane beside the table says of a run; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.content import Content

from mlxft import recipe as recipes
from mlxft.comparison.differences import Difference
from mlxft.comparison.table import RunRow
from mlxft.recipe import PARAMETERS, Parameter, Recipe
from mlxft.recipe.value_text import value_text
from mlxft.runs.events import LearningRateChanged, RunFailed, RunFinished
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView
from mlxft.text import figures
from mlxft.text.printable import printable, printable_line
from mlxft_tui.text import event_text
from mlxft_tui.text.evaluation import percent
from mlxft_tui.text.theme import FAINT, MUTED

SHORT_VALUES: Final = 44
"""Characters of two values that a narrow pane shows beside their name."""

SHOWN_CHANGES: Final = 4
"""Latest changes of the learning rate."""


def labels_of(row: RunRow) -> Content:
    """What a person wrote about the run, and its latest evaluation; empty without any."""
    labels, lines = row.labels, []
    if labels.name:
        lines.append(Content.assemble(("folder  ", MUTED), printable_line(row.run)))
    if labels.tags:
        lines.append(Content.assemble(("tags  ", MUTED), printable_line(", ".join(labels.tags))))
    if labels.notes:
        lines.append(Content.assemble(("notes  ", MUTED), printable(labels.notes)))
    if (found := row.evaluation) is not None:
        exact = percent(found.exact_match.mean) if found.exact_match else figures.NONE
        text = f"loss {figures.loss(found.loss)}, exact match {exact}, {found.records} records"
        lines.append(Content.assemble((f"{found.split}  ", MUTED), text))
    return Content("\n").join(lines)


def changed_since(name: str, found: Sequence[Difference]) -> Content:
    """What is other now than when a run was trained."""
    title = f"changed since {printable_line(name)}"
    if not found:
        return Content.styled(f"nothing has {title}", MUTED)
    lines = [Content.styled(title, "$accent")]
    for each in found:
        before, now = each.texts
        what = each.name if each.kind in ("recipe", "machine") else f"{each.kind} {each.name}"
        lines.append(Content.assemble(f"  {what.ljust(24)} {now}  ", (f"was {before}", FAINT)))
    return Content("\n").join(lines)


def describe(run: FollowedRun, other: FollowedRun | None, resume: str) -> Content:
    """A run's path and ending, and how its recipe differs from the defaults and another run.

    `resume` is the key that resumes it.
    """
    parts = [Content.styled(printable_line(figures.short_path(run.directory.path)), MUTED)]
    ending = run.view.ending
    if isinstance(ending, RunFailed):
        parts.append(Content.styled(printable_line(ending.message), "$error"))
        parts.append(Content.assemble(("log ", MUTED), printable_line(ending.log)))
    elif ending is not None:
        parts.append(Content(event_text.ending(ending)))
    elif run.state == "lost":
        parts.append(Content.styled(_lost(run, resume), "$error"))
        log = printable_line(figures.short_path(run.directory.log_file))
        parts.append(Content.assemble(("log ", MUTED), log))
    if not isinstance(ending, RunFinished) and (validated := _validated(run.view)):
        parts.append(Content(validated))
    if run.view.rate_changes:
        parts.append(_changed_rates(run.view.rate_changes))
    parts.append(_changes("the defaults", Recipe(), run.recipe, other_value="default"))
    if other is not None:
        name = printable_line(other.directory.name)
        parts.append(_changes(name, other.recipe, run.recipe, other_value="was"))
    return Content("\n").join(parts)


def _validated(view: RunView) -> str:
    """The validation loss before training and at best."""
    before, best = view.baseline, view.best_validation
    if before is None:
        return ""
    if best is None:
        return f"validation {figures.loss(before.loss)} before training"
    change = figures.improvement(before.loss, best.loss)
    return (
        f"validation {figures.loss(before.loss)} → {figures.loss(best.loss)} at step {best.step} "
        f"({change})"
    )


def _changed_rates(changes: Sequence[LearningRateChanged]) -> Content:
    """The latest manual changes of the learning rate, which are not in the recipe."""
    found = [
        f"{figures.learning_rate(each.learning_rate)} after step {each.step}" for each in changes
    ]
    shown = ", ".join(found[-SHOWN_CHANGES:])
    return Content.assemble(("learning rate changed  ", MUTED), shown)


def _lost(run: FollowedRun, resume: str) -> str:
    checkpoints = run.view.checkpoints
    if not checkpoints:
        return (
            f"The engine died at step {run.view.step} before a checkpoint; {resume} starts again."
        )
    return (
        f"The engine died at step {run.view.step}; "
        f"{resume} resumes from the checkpoint of step {checkpoints[-1].step}."
    )


def _changes(other: str, before: Recipe, after: Recipe, *, other_value: str) -> Content:
    """The parameters in which a recipe differs from another one."""
    lines = [Content.styled(f"differs from {other}", "$accent")]
    for parameter in PARAMETERS.values():
        old, new = recipes.get(before, parameter.key), recipes.get(after, parameter.key)
        if old != new:
            shown, before_it = _shown(parameter, new), f"{other_value} {_shown(parameter, old)}"
            gap = "  "
            head = f"  {parameter.key.ljust(24)} "
            if len(shown) + len(before_it) > SHORT_VALUES:
                head, gap = f"  {parameter.key}\n    ", "\n    "
            lines.append(Content.assemble(head, shown, gap, (before_it, FAINT)))
    if len(lines) == 1:
        return Content.styled(f"same as {other}", MUTED)
    return Content("\n").join(lines)


def _shown(parameter: Parameter, value: object) -> str:
    return figures.shown_path(value_text(parameter, value))

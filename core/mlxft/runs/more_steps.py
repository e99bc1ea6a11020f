"""More steps for a run that has ended: whether it can take them, and at which learning rate."""

from __future__ import annotations

from collections.abc import Mapping

from mlxft import recipe as recipes
from mlxft.errors import RecipeError, RunError
from mlxft.recipe import Recipe
from mlxft.runs.events import RunFinished
from mlxft.runs.followed import FollowedRun
from mlxft.text import figures


def more_steps(run: FollowedRun, recipe: Recipe, changes: Mapping[str, object]) -> str:
    """How a run continues with these changes of its recipe, in sentences.

    `recipe` is what it would train without them. Raises `RunError` or `RecipeError` where no step
    would be trained, or none would change a weight.
    """
    name, done = run.directory.name, run.view.step
    changed = recipe
    for key, value in changes.items():
        changed = recipes.replace(changed, key, value)
    if run.live:
        raise RunError(f"{name}: this run is in progress; give it more steps once it has ended.")
    if changed.iters <= done:
        raise RecipeError(
            f"{name} has trained {figures.count(done)} steps, so iters {changed.iters} adds none; "
            "choose more."
        )
    _refuse_early_stopped(run, changed)
    if changed.lr_schedule and changed.lr_schedule.arguments and not any(_rates(changed, done)):
        raise RecipeError(
            f"{name}: its lr_schedule has its own arguments and has ended at 0, so more steps "
            "would change nothing; empty lr_schedule.arguments to have it span the new steps."
        )
    return (
        f"{name} continues from step {figures.count(done)} to {figures.count(changed.iters)}. "
        f"{_rate_sentence(run, recipe, changed)}"
    )


def _refuse_early_stopped(run: FollowedRun, changed: Recipe) -> None:
    ending = run.view.ending
    if (
        isinstance(ending, RunFinished)
        and ending.reason == "early_stopped"
        and 0 < changed.early_stopping <= run.recipe.early_stopping
    ):
        raise RecipeError(
            f"{run.directory.name}: early stopping has ended this run and would end it again at "
            f"once; set early_stopping to 0, or above {run.recipe.early_stopping}."
        )


def _rates(recipe: Recipe, done: int) -> tuple[float, float]:
    """The learning rates of the next update and of the last one."""
    first = _updates_after(recipe, done)
    return recipes.rate_at(recipe, first), recipes.rate_at(recipe, recipes.updates(recipe) - 1)


def _updates_after(recipe: Recipe, step: int) -> int:
    return recipes.updates(recipes.replace(recipe, "iters", max(1, step))) if step else 0


def _rate_sentence(run: FollowedRun, before: Recipe, recipe: Recipe) -> str:
    schedule, done = recipe.lr_schedule, run.view.step
    next_rate, last_rate = _rates(recipe, done)
    manual = " The rate set manually stays in proportion." if run.view.rate_changes else ""
    if schedule is None or (schedule.name == "constant" and not schedule.warmup):
        return f"The learning rate stays at {figures.learning_rate(next_rate)}.{manual}"
    updates = _updates_after(recipe, done)
    ended = recipes.rate_at(before, max(0, updates - 1))
    shape = (
        f"{schedule.name} keeps its own arguments"
        if schedule.arguments
        else f"{schedule.name} now spans all {figures.count(recipe.iters)} steps"
    )
    warmup = ""
    if schedule.warmup:
        over = updates > schedule.warmup
        warmup = " The warm-up isn't repeated." if over else " The warm-up is finished first."
    return (
        f"{shape}: the learning rate was {figures.learning_rate(ended)}, continues at "
        f"{figures.learning_rate(next_rate)} and ends at {figures.learning_rate(last_rate)}."
        f"{warmup}{manual}"
    )

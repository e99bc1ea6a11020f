"""What to do once a run has ended or failed."""

from __future__ import annotations

from typing import Any

from mlxft.advice.during_run import RISEN, RUINED, rate_to_start_again_with
from mlxft.advice.types import Advice
from mlxft.errors import FailureCause
from mlxft.recipe import Recipe
from mlxft.text import figures


def after_end(began: float, final: float, recipe: Recipe) -> Advice | None:
    """What is to be said of a run that ended in order with such a loss, at first and at last."""
    if not final > max(began * RISEN, RUINED):
        return None
    rate = figures.learning_rate(rate_to_start_again_with(recipe))
    return Advice(
        "ruined",
        f"This adapter is worse than the base model: train again with a lower learning rate of "
        f"{rate}.",
        f"loss {began:.3f} at first, {final:.3f} at last",
    )


def after_failure(
    cause: FailureCause | None, recipe: Recipe, learning_rate: float | None = None
) -> Advice | None:
    """Advice on a failed run; its change is one the run can be resumed with.

    `learning_rate` is the recipe's as last changed manually.
    """
    match cause:
        case "not_finite" if recipe.learning_rate:
            rate, change = _halved_rate(recipe, learning_rate or recipe.learning_rate)
            return Advice(
                "spike",
                f"Halve the learning rate to {figures.learning_rate(rate)} and resume.",
                "a loss or gradient was NaN or infinite",
                change,
            )
        case "gpu_watchdog":
            return Advice(
                "display",
                "macOS ended the GPU work because it blocked the display: resume with the display "
                "asleep (pmset displaysleepnow), or train with a smaller batch.",
                "Metal reports “Impacting Interactivity”",
            )
        case _:
            return None


def _halved_rate(recipe: Recipe, by_hand: float) -> tuple[float, tuple[str, Any]]:
    """Half of the lower of the recipe's rate and the one set by hand, and the change to it.

    A schedule whose arguments are given doesn't look at learning_rate; its first one is the rate.
    """
    factor = min(1.0, by_hand / recipe.learning_rate) / 2
    schedule = recipe.lr_schedule
    if schedule is None or not schedule.arguments:
        rate = recipe.learning_rate * factor
        return rate, ("learning_rate", rate)
    first, *others = schedule.arguments
    return first * factor, ("lr_schedule.arguments", (first * factor, *others))

"""What to do once a run has ended or failed."""

from __future__ import annotations

from typing import Any, Final

from mlxft.advice.during_run import RISEN, RUINED, WATCHDOG, rate_to_start_again_with
from mlxft.advice.types import Advice
from mlxft.recipe import Recipe
from mlxft.text import figures

NOT_FINITE: Final = "nothing was changed by it"
"""How a run's last words tell that its guard has kept a step without finite numbers out."""


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
    message: str, recipe: Recipe | None = None, learning_rate: float | None = None
) -> Advice | None:
    """What a run's last words advise beyond what they say themselves.

    A change is one of the recipe that the run may be resumed with. `learning_rate` is the recipe's
    as it was changed by hand.
    """
    if NOT_FINITE in message and recipe is not None and recipe.learning_rate:
        rate, change = _halved_rate(recipe, learning_rate or recipe.learning_rate)
        return Advice(
            "spike",
            f"Halve the learning rate to {figures.learning_rate(rate)} and resume.",
            "the guard against losses that are no numbers has ended the run",
            change,
        )
    if WATCHDOG not in message:
        return None
    return Advice(
        "display",
        "macOS ended the work because it held up the display: resume with the display asleep "
        "(pmset displaysleepnow), or train with a smaller batch.",
        f"Metal says “{WATCHDOG}”",
    )


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

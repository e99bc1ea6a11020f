"""What to do after a run has ended or failed."""

from __future__ import annotations

from typing import Any

from mlxft.advice.during_run import DIVERGED_LOSS, RISEN, restart_rate
from mlxft.advice.types import Advice
from mlxft.errors import FailureCause
from mlxft.recipe import Recipe
from mlxft.text import figures


def after_end(first: float, final: float, recipe: Recipe) -> Advice | None:
    """Advice on a run that ended normally, from its first and final loss."""
    if not final > max(first * RISEN, DIVERGED_LOSS):
        return None
    rate = figures.learning_rate(restart_rate(recipe))
    return Advice(
        "diverged",
        f"This adapter is worse than the base model: train again at a learning rate of {rate}.",
        f"first loss {first:.3f}, final loss {final:.3f}",
    )


def after_validation(baseline: float, best: float) -> Advice | None:
    """Advice on a run that validated before its first step, from that and its best validation."""
    if best < baseline:
        return None
    return Advice(
        "validation",
        "Training has not improved the validation loss: check that the training records resemble "
        "the validation set, or train again at another learning rate.",
        f"validation {baseline:.3f} before, {best:.3f} at best",
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
            return _shorter_work(recipe)
        case "rank_lost" if recipe.hosts != 1:
            return Advice(
                "ranks",
                "Resume in one process (hosts: 1), which computes all rows of a batch; or resume "
                "with the same hosts once all of them answer.",
                "another process of this run was lost",
                ("hosts", 1),
            )
        case _:
            return None


def _shorter_work(recipe: Recipe) -> Advice:
    """What keeps macOS from ending GPU work: first shorter pieces, then more patience, if the user
    agrees to that."""
    blocked = "macOS ended the GPU work because it blocked the display: resume with it asleep"
    remedies: dict[str, tuple[str, tuple[str, Any] | None]] = {
        "normal": ("or with shorter pieces of work (gpu_work: short)", ("gpu_work", "short")),
        "short": (
            "or have macOS wait longer (gpu_work: relaxed, which sets "
            "AGX_RELAX_CDM_CTXSTORE_TIMEOUT)",
            ("gpu_work", "relaxed"),
        ),
        "relaxed": ("or train with a smaller batch and more grad_accumulation_steps", None),
    }
    remedy, change = remedies[recipe.gpu_work]
    evidence = "Metal reports “Impacting Interactivity”"
    return Advice("display", f"{blocked} (pmset displaysleepnow), {remedy}.", evidence, change)


def _halved_rate(recipe: Recipe, manual_rate: float) -> tuple[float, tuple[str, Any]]:
    """Half of the lower of the recipe's and the manual rate, and the recipe change that sets it.

    A schedule with explicit arguments ignores learning_rate; its first argument is the rate.
    """
    factor = min(1.0, manual_rate / recipe.learning_rate) / 2
    schedule = recipe.lr_schedule
    if schedule is None or not schedule.arguments:
        rate = recipe.learning_rate * factor
        return rate, ("learning_rate", rate)
    first, *others = schedule.arguments
    return first * factor, ("lr_schedule.arguments", (first * factor, *others))

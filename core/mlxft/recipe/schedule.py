"""How far a run goes: optimizer updates, epochs, validations, and the learning rate over them."""

from __future__ import annotations

import math

import msgspec

from mlxft.recipe.parameters import LrSchedule, Recipe, ScheduleName


def updates(recipe: Recipe) -> int:
    """Optimizer updates of a whole run; a last partial accumulation window counts as one."""
    return math.ceil(recipe.iters / recipe.grad_accumulation_steps)


def resolved_schedule(recipe: Recipe) -> LrSchedule | None:
    """The schedule with mlx's arguments filled in; None where the rate is simply constant."""
    schedule = recipe.lr_schedule or LrSchedule()
    if schedule.name == "constant" and schedule.warmup == 0:
        return None
    rate, length = recipe.learning_rate, float(max(1, updates(recipe) - schedule.warmup))
    arguments: dict[ScheduleName, tuple[float, ...]] = {
        "constant": (rate, rate, length),
        "cosine_decay": (rate, length),
        "linear_schedule": (rate, 0.0, length),
        "exponential_decay": (rate, 0.01 ** (1 / length)),
        "step_decay": (rate, 0.5, float(max(1, length // 4))),
    }
    name: ScheduleName = "linear_schedule" if schedule.name == "constant" else schedule.name
    return msgspec.structs.replace(
        schedule, name=name, arguments=schedule.arguments or arguments[schedule.name]
    )


def steps_per_epoch(records: int, batch_size: int) -> int:
    """Steps in which each record is seen once, a row being one record.

    Accumulation changes how many steps make an update, never how many make an epoch.
    """
    return max(1, math.ceil(records / batch_size))


def iters_for_epochs(epochs: float, steps_per_epoch: int) -> int:
    """Steps of so many epochs, an epoch having `steps_per_epoch` of them; at least one step."""
    return max(1, round(steps_per_epoch * epochs))


def epochs_for_iters(iters: int, steps_per_epoch: int) -> float:
    """How often every record is seen in so many steps."""
    return iters / max(1, steps_per_epoch)


def validations(recipe: Recipe, records: int) -> tuple[int, int]:
    """How often a run validates, and on how many batches of so many records."""
    if not records or recipe.val_batches == 0:
        return 0, 0
    batches = math.ceil(records / recipe.batch_size)
    if recipe.val_batches > 0:
        batches = min(batches, recipe.val_batches)
    return math.ceil(recipe.iters / recipe.steps_per_eval), batches

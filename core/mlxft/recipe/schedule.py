"""How long a run is in updates, epochs and validations, and the learning rate over it."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from mlxft.hosts import rank_count
from mlxft.hosts.link import rows_of_a_rank
from mlxft.recipe.parameters import Recipe
from mlxft.recipe.sections import LrSchedule, ScheduleName
from mlxft.recipe.training_parameters import PAIRED

FEW_RECORDS: Final = 50
"""Records below which a model memorizes the training set rather than learns from it."""


def updates(recipe: Recipe) -> int:
    """Optimizer updates of a whole run; a last partial accumulation window counts as one."""
    return math.ceil(recipe.iters / recipe.grad_accumulation_steps)


def resolved_schedule(recipe: Recipe) -> LrSchedule | None:
    """The schedule with mlx's arguments filled in; None for a constant learning rate."""
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


def rate_at(recipe: Recipe, update: int) -> float:
    """The learning rate of an update, counted from 0, as mlx's schedules compute it."""
    schedule = resolved_schedule(recipe)
    if schedule is None:
        return recipe.learning_rate
    if schedule.warmup and update <= schedule.warmup:
        return _linear(schedule.warmup_init, schedule.arguments[0], schedule.warmup, update)
    past = update - schedule.warmup - 1 if schedule.warmup else update
    first, second, *rest = schedule.arguments
    match schedule.name:
        case "cosine_decay":
            end = rest[0] if rest else 0.0
            share = 0.5 * (1 + math.cos(math.pi * min(past, second) / second))
            return end + share * (first - end)
        case "exponential_decay":
            return float(first * second**past)
        case "step_decay":
            return float(first * second ** (past // rest[0]))
        case _:
            return _linear(first, second, rest[0], past)


def _linear(first: float, last: float, length: float, update: float) -> float:
    return first + (last - first) * min(update, length) / length


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Steps in which every row is seen once; a row is one record unless rows are packed.

    Gradient accumulation changes how many steps make an update, not how many make an epoch.
    """
    return math.ceil(rows / batch_size)


def iters_for_epochs(epochs: float, steps_per_epoch: int) -> int:
    """Steps of this many epochs; at least one."""
    return max(1, round(steps_per_epoch * epochs))


def epochs_for_iters(iters: int, steps_per_epoch: int) -> float:
    """Epochs of this many steps."""
    return iters / max(1, steps_per_epoch)


def validations(recipe: Recipe, rows: int) -> tuple[int, int]:
    """How often a run validates, and on how many batches of this many rows."""
    if not rows or recipe.val_batches == 0:
        return 0, 0
    batches = steps_per_epoch(rows, recipe.batch_size)
    if recipe.val_batches > 0:
        batches = min(batches, recipe.val_batches)
    scheduled = math.ceil(recipe.iters / recipe.steps_per_eval)
    return scheduled + recipe.val_at_start, batches


def batch_size_for(records: int) -> int:
    """A batch size that leaves several batches of so few records."""
    return max(1, records // 4)


def too_few_records(records: int, batch_size: int) -> str:
    """Why a batch can't be filled, as a clause; empty if it can."""
    if records >= batch_size:
        return ""
    counted = "1 record is" if records == 1 else f"{records} records are"
    return f"{counted} too few for a batch of {batch_size}"


def unit_of_batch(recipe: Recipe) -> str:
    """What batch_size counts with the recipe's loss."""
    if recipe.loss in PAIRED:
        return "pairs"
    return "answers" if recipe.loss == "kto" else "records"


def rows_per_step(recipe: Recipe) -> int:
    """Rows of a step: a pair of answers takes two, unless it is packed into one."""
    pairs = recipe.loss in PAIRED and not recipe.packing
    return recipe.batch_size * (2 if pairs else 1)


def rows_of_largest_part(recipe: Recipe) -> int:
    """The rows of a step that the rank with the most of them computes."""
    ranks = rank_count(recipe.hosts).all
    part = msgspec.structs.replace(recipe, batch_size=rows_of_a_rank(recipe.batch_size, ranks))
    return rows_per_step(part)


def row_limit(recipe: Recipe) -> int:
    """The most tokens of a row; packed, both answers of a pair are in one."""
    pairs = recipe.loss in PAIRED and recipe.packing
    return recipe.max_seq_length * (2 if pairs else 1)

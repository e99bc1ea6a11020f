"""Rules of thumb for a recipe, from what is known of its model, memory and data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from mlxft import recipe as recipes
from mlxft.advice.fit import USUAL_BLOCKS, reduction
from mlxft.advice.types import Advice, Need, gigabytes
from mlxft.recipe import Recipe
from mlxft.text import figures

MANY_EPOCHS: Final = 10
"""More passes over the same records than this rather teach them by heart."""


MUCH_UNSEEN: Final = 0.5
"""Epochs below which most of the records are never trained on."""


UNUSUAL_RATE: Final = 4.0
"""Times the usual rate; small models and calm schedules bear more than the rule says."""


FEW_RECORDS: Final = 500


WIDE_RANK: Final = 64


MANY_RECORDS: Final = 5000


FEW_LAYERS: Final = 2
"""Trained layers that are too few for what many records have to teach."""


FEWEST_UPDATES: Final = 20
"""Updates below which a rate has hardly begun to act."""


COSTLY_VALIDATION: Final = 0.25
"""Share of a run's work above which validation is worth a word; its batch costs a third."""


def before_run(
    recipe: Recipe,
    bits: int | None,
    need: Callable[[Recipe], Need] | None = None,
    train_records: int | None = None,
    valid_records: int | None = None,
    steps_per_epoch: int | None = None,
    blocks: int = USUAL_BLOCKS,
) -> list[Advice]:
    """What to think about before starting, the most pressing first.

    `bits` is the model's quantization, None for full precision. `need` estimates the memory of a
    recipe. `steps_per_epoch` is given where it is known better than from the records' number, and
    `blocks` is how many the model has.
    """
    records = train_records or 0
    steps_per_epoch = steps_per_epoch or recipes.steps_per_epoch(records, recipe.batch_size)
    refused = list(_refused_batch(recipe, records)) if records else []
    rules = [
        *refused,
        # What a batch that can't be trained takes is no matter yet.
        *(_memory(recipe, need, blocks) if need and not refused else []),
        *_learning_rate(recipe, bits),
        *(_passes(recipe, records, steps_per_epoch) if records else []),
        *(_size(recipe, records, blocks) if records else []),
        *(_validation(recipe, valid_records) if valid_records else []),
    ]
    return [each for each in rules if each is not None]


def usual_learning_rates(bits: int | None, fine_tune_type: recipes.FineTuneType) -> list[float]:
    """The lowest and highest rate that suit a model of so many bits, None for full precision."""
    if fine_tune_type == "full":
        return [1e-5, 2e-5]
    if bits is None:
        return [5e-5, 1e-4]
    return [2e-4, 2e-4] if bits <= 4 else [1e-4, 1e-4]


def _learning_rate(recipe: Recipe, bits: int | None) -> Iterator[Advice]:
    low, high = usual_learning_rates(bits, recipe.fine_tune_type)
    rate = recipe.learning_rate
    if low / UNUSUAL_RATE <= rate <= high * UNUSUAL_RATE:
        return
    model = f"a {bits}-bit model" if bits else "a model in full precision"
    what = "training whole layers of " if recipe.fine_tune_type == "full" else ""
    usual = figures.learning_rate(high)
    if low != high:
        usual = f"{figures.learning_rate(low)} to {usual}"
    suggested = high if rate > high else low
    effect = "steps this large often make the loss spike" if rate > high else "it will learn slowly"
    yield Advice(
        "learning_rate",
        f"Set learning_rate to {figures.learning_rate(suggested)}: for {what}{model} {usual} is "
        f"usual, {effect}.",
        f"learning_rate is {figures.learning_rate(rate)}",
        ("learning_rate", suggested),
    )


def _memory(recipe: Recipe, need: Callable[[Recipe], Need], blocks: int) -> Iterator[Advice]:
    now = need(recipe)
    if now.limit is None:
        return
    evidence = f"{gigabytes(now.total)} of {gigabytes(now.limit)} GB"
    if now.verdict == "wont_fit":
        yield reduction(recipe, need, blocks, evidence)
    elif now.verdict == "tight":
        yield Advice(
            "memory",
            "It fits with little to spare: close other programs before you start.",
            evidence,
        )
    elif recipe.grad_checkpoint:
        faster = recipes.replace(recipe, "grad_checkpoint", False)
        without = need(faster)
        if without.verdict == "fits":
            yield Advice(
                "speed",
                "Turn grad_checkpoint off: there is memory for it, and it costs a third of "
                "the speed.",
                f"{gigabytes(without.total)} of {gigabytes(now.limit)} GB without it",
                ("grad_checkpoint", False),
            )


def _passes(recipe: Recipe, records: int, steps_per_epoch: int) -> Iterator[Advice]:
    """How often the records are seen."""
    epochs = recipes.epochs_for_iters(recipe.iters, steps_per_epoch)
    if epochs > MANY_EPOCHS:
        iters = recipes.iters_for_epochs(3, steps_per_epoch)
        yield Advice(
            "data",
            f"Train for fewer steps: {iters} see each record three times, and after many passes "
            "a model knows them by heart.",
            f"{recipe.iters} steps are {epochs:.0f} passes over {records} records",
            ("iters", iters),
        )
    elif epochs < MUCH_UNSEEN:
        iters = recipes.iters_for_epochs(1, steps_per_epoch)
        yield Advice(
            "data",
            f"Most records will not be seen: {iters} steps see each one once.",
            f"{recipe.iters} steps are {epochs:.0%} of {records} records",
            ("iters", iters),
        )


def _size(recipe: Recipe, records: int, blocks: int) -> Iterator[Advice]:
    """Rank, layers and batch against the number of records."""
    rank, layers = recipe.lora_parameters.rank, recipe.num_layers
    if records < FEW_RECORDS and rank >= WIDE_RANK and recipe.fine_tune_type != "full":
        yield Advice(
            "data",
            "Set rank to 8: so few records are easily learnt by heart by a wide adapter.",
            f"rank {rank} for {records} records",
            ("lora_parameters.rank", 8),
        )
    if records >= MANY_RECORDS and 0 < layers <= FEW_LAYERS < blocks:
        more = min(8, blocks)
        yield Advice(
            "data",
            f"Set num_layers to {more}: so many records have more to teach than "
            f"{layers} {'layer' if layers == 1 else 'layers'} can hold.",
            f"{records} records",
            ("num_layers", more),
        )
    updates = recipes.updates(recipe)
    if updates < FEWEST_UPDATES <= recipe.iters and recipe.grad_accumulation_steps > 1:
        yield Advice(
            "data",
            "Set grad_accumulation_steps to 1: the weights change too few times to learn much.",
            f"{updates} updates in {recipe.iters} steps",
            ("grad_accumulation_steps", 1),
        )


def _refused_batch(recipe: Recipe, records: int) -> Iterator[Advice]:
    if recipe.batch_size > records:
        fewer = max(1, records // 4)
        yield Advice(
            "data",
            f"Set batch_size to {fewer}: a run with more records in a batch than there are is "
            "refused.",
            f"{records} {'record' if records == 1 else 'records'}, batch_size {recipe.batch_size}",
            ("batch_size", fewer),
        )


def _validation(recipe: Recipe, records: int) -> Iterator[Advice]:
    times, batches = recipes.validations(recipe, records)
    share = times * batches / 3 / recipe.iters
    if times > 1 and share > COSTLY_VALIDATION:
        seldom = max(recipe.steps_per_eval, math.ceil(recipe.iters / 4))
        yield Advice(
            "validation",
            f"Validate every {seldom} steps: it takes much of the run's time as it is.",
            f"{times} validations of {batches} batches beside {recipe.iters} steps",
            ("steps_per_eval", seldom),
        )

"""Advice on a recipe, from what is known about its model, memory and data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from mlxft import recipe as recipes
from mlxft.advice.fit import USUAL_BLOCKS, smallest_change
from mlxft.advice.types import Advice, EstimateMemory, gigabytes
from mlxft.data.compared import refuse_combination, unsuited
from mlxft.data.record_warnings import LIKED_ANSWERS
from mlxft.errors import RecipeError
from mlxft.hosts import rank_count
from mlxft.recipe import Recipe
from mlxft.text import figures

MANY_EPOCHS: Final = 10
"""Epochs above which a model overfits rather than learns."""


FEW_EPOCHS: Final = 0.5
"""Epochs below which most records are never seen."""


UNUSUAL_RATE: Final = 4.0
"""Factor on the usual learning rate; small models and decaying schedules tolerate more."""


SMALL_DATASET: Final = 500


HIGH_RANK: Final = 64


MANY_RECORDS: Final = 5000


FEW_LAYERS: Final = 2
"""Trained layers with too little capacity for many records."""


FEW_UPDATES: Final = 20
"""Updates below which the weights hardly change."""


COSTLY_VALIDATION: Final = 0.25
"""Share of a run's work above which validation is mentioned."""


VALIDATION_COST: Final = 1 / 3
"""Work of a validation batch, which has no backward pass, in training steps."""


SIMPO_BETA: Final = 1.0
"""Below it simpo hardly separates answers; its paper takes 2 to 10."""


LATE: Final = 0.9
"""Share of the updates by which a schedule shouldn't have ended at 0."""


def before_run(
    recipe: Recipe,
    bits: int | None,
    estimate: EstimateMemory | None = None,
    *,
    train_records: int | None = None,
    valid_records: int | None = None,
    steps_per_epoch: int | None = None,
    blocks: int = USUAL_BLOCKS,
    contradictions: int = 0,
    formats: Mapping[str, int] = {},
    trains_nothing: bool = False,
) -> list[Advice]:
    """What to consider before starting, the most important first.

    `bits` is the model's quantization, None for full precision; `blocks` its number of transformer
    blocks. `contradictions` of the records answer an earlier one's prompt differently; `formats`
    are the numbers of records by the format that they are written in; `trains_nothing` says that
    none of their tokens is trained.
    `steps_per_epoch` is derived from `train_records` unless it is known exactly.
    """
    records = train_records or 0
    steps_per_epoch = steps_per_epoch or recipes.steps_per_epoch(records, recipe.batch_size)
    refused = [
        *(_too_few_records(recipe, records) if records else []),
        *(_nothing_trained(recipe) if trains_nothing else []),
    ]
    return [
        *_loss(recipe, formats),
        *refused,
        *_idle_processes(recipe),
        # The memory of a batch that will be refused doesn't matter yet.
        *(_memory(recipe, estimate, blocks) if estimate and not refused else []),
        *(list(_schedule(recipe)) or _learning_rate(recipe, bits)),
        *(_epochs(recipe, records, steps_per_epoch) if records else []),
        *(_records(records, contradictions) if records and not refused else []),
        *(_capacity(recipe, records, blocks) if records else []),
        *(_validation(recipe, valid_records) if valid_records else []),
    ]


def _loss(recipe: Recipe, formats: Mapping[str, int]) -> Iterator[Advice]:
    """Settings and data that the run would be refused for, or that don't suit its loss."""
    try:
        refuse_combination(recipe)
    except RecipeError as error:
        yield Advice("data", str(error), f"loss {recipe.loss}")
    found = unsuited(formats, recipe.loss)
    if found is not None:
        labels = formats.get(LIKED_ANSWERS, 0) == sum(formats.values())
        change: tuple[str, str] = ("loss", "kto" if labels else "sft")
        message = f"{found.problem[0].upper()}{found.problem[1:]}; {found.remedy}."
        yield Advice("data", message, "they are left out", change)
    if recipe.loss == "simpo" and recipe.loss_parameters.beta < SIMPO_BETA:
        yield Advice(
            "data",
            "Raise beta: simpo's rewards are per token, so it needs a beta of 2 to 10.",
            f"beta {recipe.loss_parameters.beta:g}",
            ("loss_parameters.beta", 2.0),
        )


def _idle_processes(recipe: Recipe) -> Iterator[Advice]:
    """Processes of several that have no row of any batch."""
    ranks = rank_count(recipe.hosts).all
    if recipe.batch_size < ranks:
        yield Advice(
            "speed",
            f"Raise batch_size: {ranks - recipe.batch_size} of {ranks} processes have no record of "
            "a step.",
            f"batch_size {recipe.batch_size}, {ranks} processes",
            ("batch_size", ranks),
        )


def usual_learning_rates(
    bits: int | None, fine_tune_type: recipes.FineTuneType, loss: recipes.TrainingLoss = "sft"
) -> tuple[float, float]:
    """The lowest and highest usual learning rate; `bits` is None for full precision.

    A preference is trained at a tenth of the rates for answers.
    """
    if loss != "sft":
        low, high = usual_learning_rates(bits, fine_tune_type)
        return low / 10, high / 10
    if fine_tune_type == "full":
        return 1e-5, 2e-5
    if bits is None:
        return 5e-5, 1e-4
    return (2e-4, 2e-4) if bits <= 4 else (1e-4, 1e-4)


def _schedule(recipe: Recipe) -> Iterator[Advice]:
    """The schedule's own arguments where they contradict learning_rate or iters.

    A recipe file names them for mlx-lm, so an edit of the file leaves them as they were.
    """
    schedule = recipe.lr_schedule
    if schedule is None or not schedule.arguments:
        return
    clear = ("lr_schedule.arguments", ())
    first, rate = schedule.arguments[0], recipe.learning_rate
    updates = recipes.updates(recipe)
    if not math.isclose(first, rate):
        yield Advice(
            "learning_rate",
            "Clear lr_schedule.arguments: the schedule starts at the rate that they name, and "
            "learning_rate has no effect.",
            f"{figures.learning_rate(first)} in arguments, learning_rate is "
            f"{figures.learning_rate(rate)}",
            clear,
        )
    elif recipes.rate_at(recipe, int(updates * LATE)) == 0:
        yield Advice(
            "learning_rate",
            "Clear lr_schedule.arguments: they lower the learning rate to 0 long before the run "
            "ends.",
            f"{schedule.name} ends within {LATE:.0%} of {figures.count(updates)} updates",
            clear,
        )


def _learning_rate(recipe: Recipe, bits: int | None) -> Iterator[Advice]:
    low, high = usual_learning_rates(bits, recipe.fine_tune_type, recipe.loss)
    rate = recipe.learning_rate
    if low / UNUSUAL_RATE <= rate <= high * UNUSUAL_RATE:
        return
    model = f"a {bits}-bit model" if bits else "a full-precision model"
    training = "full fine-tuning of " if recipe.fine_tune_type == "full" else ""
    training = training if recipe.loss == "sft" else f"{recipe.loss} and {training}"
    usual = figures.learning_rate(high)
    if low != high:
        usual = f"{figures.learning_rate(low)} to {usual}"
    suggested = high if rate > high else low
    effect = "higher rates often spike" if rate > high else "lower rates learn slowly"
    yield Advice(
        "learning_rate",
        f"Set learning_rate to {figures.learning_rate(suggested)}: {usual} is usual for "
        f"{training}{model}; {effect}.",
        f"learning_rate is {figures.learning_rate(rate)}",
        ("learning_rate", suggested),
    )


def _memory(recipe: Recipe, estimate: EstimateMemory, blocks: int) -> Iterator[Advice]:
    now = estimate(recipe)
    if now.limit is None:
        return
    evidence = f"{gigabytes(now.total)} of {gigabytes(now.limit)} GB"
    if now.verdict == "wont_fit":
        yield smallest_change(recipe, estimate, blocks, evidence)
    elif now.verdict == "tight":
        yield Advice("memory", "Memory is tight: close other programs before you start.", evidence)
    elif recipe.grad_checkpoint:
        without = estimate(recipes.replace(recipe, "grad_checkpoint", False))
        if without.verdict == "fits":
            yield Advice(
                "speed",
                "Turn grad_checkpoint off: there is enough memory, and it costs up to a third of "
                "the speed.",
                f"{gigabytes(without.total)} of {gigabytes(now.limit)} GB without it",
                ("grad_checkpoint", False),
            )


def _epochs(recipe: Recipe, records: int, steps_per_epoch: int) -> Iterator[Advice]:
    epochs = recipes.epochs_for_iters(recipe.iters, steps_per_epoch)
    if epochs > MANY_EPOCHS:
        iters = recipes.iters_for_epochs(3, steps_per_epoch)
        yield Advice(
            "data",
            f"Set iters to {iters} (3 epochs): with so many epochs the model overfits.",
            f"{recipe.iters} steps are {epochs:.0f} epochs of {records} records",
            ("iters", iters),
        )
    elif epochs < FEW_EPOCHS:
        iters = recipes.iters_for_epochs(1, steps_per_epoch)
        yield Advice(
            "data",
            f"Set iters to {iters} (1 epoch): most records would never be seen.",
            f"{recipe.iters} steps see {epochs:.0%} of {records} records",
            ("iters", iters),
        )


def _records(records: int, contradictions: int) -> Iterator[Advice]:
    if contradictions:
        yield Advice(
            "data",
            "Check the records that answer the same prompt differently: the model learns a mixture "
            "of their answers.",
            f"{contradictions} of {records} records",
            records_listed=True,
        )
    if records < recipes.FEW_RECORDS:
        yield Advice(
            "data",
            f"Add records, {recipes.FEW_RECORDS} or far more: the model memorizes so few.",
            f"{records} records",
        )


def _capacity(recipe: Recipe, records: int, blocks: int) -> Iterator[Advice]:
    """Rank, layers and updates against the number of records."""
    rank, layers = recipe.lora_parameters.rank, recipe.num_layers
    if records < SMALL_DATASET and rank >= HIGH_RANK and recipe.fine_tune_type != "full":
        yield Advice(
            "data",
            "Set rank to 8: a high rank overfits a small dataset.",
            f"rank {rank} for {records} records",
            ("lora_parameters.rank", 8),
        )
    if records >= MANY_RECORDS and 0 < layers <= FEW_LAYERS < blocks:
        more = min(8, blocks)
        trained = "1 layer has" if layers == 1 else f"{layers} layers have"
        yield Advice(
            "data",
            f"Set num_layers to {more}: {trained} too little capacity for so many records.",
            f"{records} records",
            ("num_layers", more),
        )
    updates = recipes.updates(recipe)
    if updates < FEW_UPDATES <= recipe.iters and recipe.grad_accumulation_steps > 1:
        yield Advice(
            "data",
            "Set grad_accumulation_steps to 1: so few updates learn little.",
            f"{updates} updates in {recipe.iters} steps",
            ("grad_accumulation_steps", 1),
        )


def _too_few_records(recipe: Recipe, records: int) -> Iterator[Advice]:
    if reason := recipes.too_few_records(records, recipe.batch_size):
        fewer = recipes.batch_size_for(records)
        yield Advice(
            "data",
            f"Set batch_size to {fewer}: the run would be refused.",
            reason,
            ("batch_size", fewer),
        )


def _nothing_trained(recipe: Recipe) -> Iterator[Advice]:
    evidence = "0.0% of the tokens are trained"
    if recipe.train_on == "everything":
        message = "Check the weights of records and answers: the run would be refused."
        yield Advice("data", message, evidence)
    else:
        message = "Set train_on to everything, or raise max_seq_length: the run would be refused."
        yield Advice("data", message, evidence, ("train_on", "everything"))


def _validation(recipe: Recipe, records: int) -> Iterator[Advice]:
    times, batches = recipes.validations(recipe, records)
    share = times * batches * VALIDATION_COST / recipe.iters
    rarer = math.ceil(recipe.iters / 4)
    if rarer > recipe.steps_per_eval and share > COSTLY_VALIDATION:
        yield Advice(
            "validation",
            f"Set steps_per_eval to {rarer}: validation takes much of the run's time.",
            f"{times} validations of {batches} batches in {recipe.iters} steps",
            ("steps_per_eval", rarer),
        )

"""Rules of thumb for fine-tuning, each with its reason and, where there is one, the change.

Pure functions: `before_run` of a recipe and what is known of model, memory and data, `during_run`
of a run's own figures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from mlxft import recipe as recipes
from mlxft.recipe import Recipe

Kind = Literal[
    "learning_rate",
    "memory",
    "speed",
    "data",
    "validation",
    "spike",
    "ruined",
    "plateau",
    "overfitting",
    "swap",
    "pressure",
    "display",
]


@dataclass(frozen=True)
class Advice:
    """What to do and why; `change` is the recipe's key and its new value, if one would help."""

    kind: Kind
    message: str
    evidence: str
    change: tuple[str, Any] | None = None


class Need(Protocol):
    """What a recipe needs, as an estimator tells it; bytes."""

    @property
    def total(self) -> int: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def verdict(self) -> str: ...


class Validation(Protocol):
    """A validation's mean loss after a step."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...


@dataclass(frozen=True)
class RateChange:
    """A change of the learning rate by hand: after which step, and whether to a lower one."""

    step: int
    lowered: bool


class Machine(Protocol):
    """One look at the machine; a figure that can't be had is None."""

    @property
    def swap_used(self) -> int | None: ...
    @property
    def memory_pressure(self) -> str | None: ...
    @property
    def gpu_share(self) -> float | None: ...
    @property
    def cpu_share(self) -> float | None: ...


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

SHORTEST_LENGTH: Final = 256
NARROWEST_RANK: Final = 4
USUAL_BLOCKS: Final = 32
"""Blocks of a model whose shapes aren't known."""

# Before a run


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
    an_epoch = steps_per_epoch or recipes.steps_per_epoch(records, recipe.batch_size)
    refused = list(_refused_batch(recipe, records)) if records else []
    rules = [
        *refused,
        # What a batch that can't be trained takes is no matter yet.
        *(_memory(recipe, need, blocks) if need and not refused else []),
        *_learning_rate(recipe, bits),
        *(_passes(recipe, records, an_epoch) if records else []),
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
    usual = recipes.rate_text(high)
    if low != high:
        usual = f"{recipes.rate_text(low)} to {usual}"
    suggested = high if rate > high else low
    effect = "steps this large often make the loss spike" if rate > high else "it will learn slowly"
    yield Advice(
        "learning_rate",
        f"Set learning_rate to {recipes.rate_text(suggested)}: for {what}{model} {usual} is "
        f"usual, {effect}.",
        f"learning_rate is {recipes.rate_text(rate)}",
        ("learning_rate", suggested),
    )


def _memory(recipe: Recipe, need: Callable[[Recipe], Need], blocks: int) -> Iterator[Advice]:
    now = need(recipe)
    if now.limit is None:
        return
    evidence = f"{_gigabytes(now.total)} of {_gigabytes(now.limit)} GB"
    if now.verdict == "wont_fit":
        yield _reduction(recipe, need, blocks, evidence)
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
                f"{_gigabytes(without.total)} of {_gigabytes(now.limit)} GB without it",
                ("grad_checkpoint", False),
            )


@dataclass(frozen=True)
class Saving:
    """A change of the recipe, and the bytes that it saves after those before it."""

    key: str
    value: Any
    saved: int


def _reduction(
    recipe: Recipe, need: Callable[[Recipe], Need], blocks: int, evidence: str
) -> Advice:
    """The smallest change that fits, tried in the order of what it costs the result."""
    for key, value in _reductions(recipe, blocks):
        smaller = need(recipes.replace(recipe, key, value))
        if smaller.verdict != "wont_fit":
            return Advice(
                "memory",
                f"It will not fit; with {key} {_shown(value)} it takes "
                f"{_gigabytes(smaller.total)} GB.",
                evidence,
                (key, value),
            )
    fitted, savings = fit(recipe, need, blocks)
    if fitted is None:
        return Advice(
            "memory",
            "It will not fit even at its smallest: choose a smaller or more "
            "strongly quantized model.",
            evidence,
        )
    listed = ", ".join(f"{each.key} {_shown(each.value)}" for each in savings)
    return Advice(
        "memory",
        f"It will not fit; with {listed} together it does.",
        evidence,
        (savings[0].key, savings[0].value),
    )


def fit(
    recipe: Recipe,
    need: Callable[[Recipe], Need],
    blocks: int = USUAL_BLOCKS,
    train_records: int | None = None,
) -> tuple[Recipe | None, list[Saving]]:
    """A recipe that fits and keeps most of what was asked, and what each change saves.

    Begins with a batch of no more than all records, since a larger one is refused. Reduced in the
    order of what it costs the result (checkpointing costs only time) until it fits; then whatever
    was reduced more than needed is given back. None where even the smallest is too large.
    """
    possible = recipe
    if train_records and recipe.batch_size > train_records:
        possible = recipes.replace(recipe, "batch_size", train_records)
    fitted = possible
    reductions = list(_reductions(possible, blocks))
    for key, value in reductions:
        if need(fitted).verdict != "wont_fit":
            break
        fitted = recipes.replace(fitted, key, value)
    if need(fitted).verdict == "wont_fit":
        return None, []
    fitted = _given_back(possible, fitted, need, reductions)
    capped = [("batch_size", possible.batch_size)] if possible != recipe else []
    return fitted, _savings(recipe, fitted, need, [*capped, *reductions])


def _given_back(
    asked: Recipe,
    fitted: Recipe,
    need: Callable[[Recipe], Need],
    reductions: Sequence[tuple[str, Any]],
) -> Recipe:
    """The recipe with each reduced value as near to what was asked as fits."""
    for key in dict.fromkeys(key for key, _ in reductions):
        milder = [recipes.get(asked, key), *(value for each, value in reductions if each == key)]
        for value in milder:
            candidate = recipes.replace(fitted, key, value)
            if value == recipes.get(fitted, key) or need(candidate).verdict != "wont_fit":
                fitted = candidate
                break
    return fitted


def _savings(
    asked: Recipe,
    fitted: Recipe,
    need: Callable[[Recipe], Need],
    reductions: Sequence[tuple[str, Any]],
) -> list[Saving]:
    """Each change in the order in which it was tried."""
    savings = []
    for key in dict.fromkeys(key for key, _ in reductions):
        value = recipes.get(fitted, key)
        if value != recipes.get(asked, key):
            changed = recipes.replace(asked, key, value)
            savings.append(Saving(key, value, need(asked).total - need(changed).total))
            asked = changed
    return savings


def _reductions(recipe: Recipe, blocks: int = USUAL_BLOCKS) -> Iterator[tuple[str, Any]]:
    """Changes that need less memory, the mildest first and each key's in falling order."""
    if not recipe.grad_checkpoint:
        yield "grad_checkpoint", True
    yield from (("batch_size", each) for each in _halves(recipe.batch_size, 1))
    yield from (
        ("max_seq_length", each) for each in _halves(recipe.max_seq_length, SHORTEST_LENGTH)
    )
    layers = min(recipe.num_layers, blocks) if recipe.num_layers > 0 else blocks
    yield from (("num_layers", each) for each in _halves(layers, 1))
    if recipe.fine_tune_type == "full":
        yield "fine_tune_type", "lora"
    rank = recipe.lora_parameters.rank
    yield from (("lora_parameters.rank", each) for each in _halves(rank, NARROWEST_RANK))


def _halves(value: int, smallest: int) -> Iterator[int]:
    while value // 2 >= smallest:
        value //= 2
        yield value


def _passes(recipe: Recipe, records: int, an_epoch: int) -> Iterator[Advice]:
    """How often the records are seen."""
    epochs = recipes.epochs_for_iters(recipe.iters, an_epoch)
    if epochs > MANY_EPOCHS:
        iters = recipes.iters_for_epochs(3, an_epoch)
        yield Advice(
            "data",
            f"Train for fewer steps: {iters} see each record three times, and after many passes "
            "a model knows them by heart.",
            f"{recipe.iters} steps are {epochs:.0f} passes over {records} records",
            ("iters", iters),
        )
    elif epochs < MUCH_UNSEEN:
        iters = recipes.iters_for_epochs(1, an_epoch)
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


# During a run

SPIKE_STEPS: Final = 5
"""The latest steps that a spike is looked for in."""

SPIKE_BASE: Final = 30
"""The steps before them that say what is usual."""

RISEN_STEPS: Final = 10
"""The latest steps that all stand above the first ones where the rate is far too high."""

RISEN: Final = 2.0
"""How many times the first losses that is."""

RUINED: Final = 4.0
"""About the loss of guessing among 50 tokens: one batch may have it, no model at work keeps it."""

GUESSING: Final = 10.0
"""About the loss of guessing among 20,000 to 150,000 tokens: no model at work comes near it."""

SPIKE_DEVIATIONS: Final = 4.0
SPIKE_RISE: Final = 0.25

PLATEAU_STEPS: Final = 80
"""The fewest steps that a plateau is looked for in; later it is the latter half of all steps."""

PLATEAU_PROGRESS: Final = 0.03
"""Share of the loss that those steps must win, as far as their noise lets tell."""

PLATEAU_VALIDATIONS: Final = 6
"""The fewest validations whose two halves are compared."""

WORSE: Final = 0.01
"""A validation counts as worse from this share above the best."""

SWAP_GROWTH: Final = 512 * 1024**2
IDLE_SHARE: Final = 0.5
BUSY_SHARE: Final = 0.9
LOOKS: Final = 10
"""Samples that a statement about the machine needs."""

WATCHDOG_SECONDS: Final = 5.0
"""Seconds of GPU work for one step from which macOS may take offence while its display is on."""

WATCHDOG: Final = "Impacting Interactivity"
"""What Metal calls the end of work that has held up the display."""

NOT_FINITE: Final = "nothing was changed by it"
"""How a run's last words tell that its guard has kept a step without finite numbers out."""


def during_run(
    losses: Sequence[float],
    validations: Sequence[Validation] = (),
    samples: Sequence[Machine] = (),
    learning_rate: float | None = None,
    recipe: Recipe | None = None,
    metal_seconds: Sequence[float] = (),
    changed: RateChange | None = None,
    beginning: Sequence[float] = (),
    gradients: Sequence[float] = (),
) -> list[Advice]:
    """What a run's figures say, the most pressing first.

    `losses` are those of each step since the rate was last `changed` by hand, `beginning` those of
    the run's first steps, `gradients` the norms of the latest; `samples` are the looks at the
    machine since the run started, `metal_seconds` those of the latest steps on an Apple GPU.
    Without a `learning_rate` no change of it is proposed, without a `recipe` no smaller one.
    """
    lately = [each for each in validations if changed is None or each.step > changed.step]
    lowered = changed is not None and changed.lowered
    ruined = _ruined(losses, beginning or losses, gradients, lowered, recipe)
    spike = ruined or _spike(losses, learning_rate) or _risen(losses, learning_rate)
    worse = None if ruined else _overfitting(losses, validations, lately)
    away = _is_above_its_beginning(losses, beginning or losses)
    plateau = None if spike or worse or away else _plateau(losses, lately, learning_rate)
    found = (
        spike,
        worse,
        _pressure(samples, recipe),
        _swap(samples, recipe),
        _display(metal_seconds),
        plateau,
        _idle_gpu(samples),
    )
    return [each for each in found if each is not None]


def _ruined(
    losses: Sequence[float],
    beginning: Sequence[float],
    gradients: Sequence[float],
    lowered: bool,
    recipe: Recipe | None,
) -> Advice | None:
    """The loss stays far above where the run began though the rate was lowered, or nothing is
    learned there any more: other weights are the only remedy."""
    began, now = _began_and_now(beginning, losses)
    if now is None or min(losses[-RISEN_STEPS:]) <= began or now < max(began * RISEN, RUINED):
        return None
    norms = gradients[-RISEN_STEPS:]
    dead = len(norms) == RISEN_STEPS and not any(norms)
    if not (dead or lowered):
        return None
    lower = _rate_to_start_again_with(recipe) if recipe else None
    rate = f" of {recipes.rate_text(lower)}" if lower else ""
    why = "the weights learn no more" if dead else "the loss has not come back"
    evidence = f"{began:.3f} at first, {now:.3f} now"
    return Advice(
        "ruined",
        f"Stop, and train again with a lower learning rate{rate}: {why}.",
        evidence + (", the gradient is 0" if dead else f", {len(losses)} steps at a lower rate"),
    )


def _rate_to_start_again_with(recipe: Recipe) -> float:
    """A tenth of the rate that failed, and none that would be unusual."""
    _, high = usual_learning_rates(None, recipe.fine_tune_type)
    return min(recipe.learning_rate / 10, high * UNUSUAL_RATE)


def _began_and_now(
    beginning: Sequence[float], losses: Sequence[float]
) -> tuple[float, float | None]:
    """The loss that a run began with, and where it stands; None where too few steps tell.

    Where it leaps at the second step, only the first loss tells where it began.
    """
    first, recent = beginning[:SPIKE_STEPS], losses[-RISEN_STEPS:]
    if len(losses) < SPIKE_STEPS + RISEN_STEPS or not all(map(math.isfinite, (*first, *recent))):
        return math.nan, None
    now = statistics.median(recent)
    return (first[0] if now >= GUESSING else statistics.median(first)), now


def _spike(losses: Sequence[float], rate: float | None) -> Advice | None:
    """The latest losses stand far above what was usual before them."""
    recent, before = losses[-SPIKE_STEPS:], losses[-SPIKE_STEPS - SPIKE_BASE : -SPIKE_STEPS]
    if any(not math.isfinite(loss) for loss in recent):
        return _halve("The loss is no longer a number", "a loss that is not finite", rate)
    finite = [loss for loss in before if math.isfinite(loss)]
    if len(recent) < SPIKE_STEPS or len(finite) < SPIKE_BASE:
        return None
    usual = statistics.median(finite)
    spread = statistics.median(abs(loss - usual) for loss in finite) * 1.4826
    now = statistics.median(recent)
    # Single hard batches leave the spread small and stand far above it; a spike is above them too.
    if now < max(*finite, usual + max(SPIKE_DEVIATIONS * spread, SPIKE_RISE * usual)):
        return None
    return _halve("The loss has spiked", f"{usual:.3f} before, {now:.3f} now", rate)


def _is_above_its_beginning(losses: Sequence[float], beginning: Sequence[float]) -> bool:
    """Whether a larger rate would be no remedy, however little the loss moves."""
    began, now = _began_and_now(beginning, losses)
    return now is not None and now > began * (1 + SPIKE_RISE)


def _risen(losses: Sequence[float], rate: float | None) -> Advice | None:
    """The loss has left where it began: a spike before there was anything usual to compare with."""
    began, now = _began_and_now(losses, losses)
    if now is None or min(losses[-RISEN_STEPS:]) <= began or now < began * RISEN:
        return None
    return _halve("The loss has risen", f"{began:.3f} at first, {now:.3f} now", rate)


def _halve(what: str, evidence: str, rate: float | None) -> Advice:
    change = ("learning_rate", rate / 2) if rate else None
    to = f" to {recipes.rate_text(rate / 2)}" if rate else ""
    return Advice("spike", f"{what}: halve the learning rate{to}.", evidence, change)


def _plateau(
    losses: Sequence[float], validations: Sequence[Validation], rate: float | None
) -> Advice | None:
    """The latter half of the steps has won too little, as the losses or the validations tell.

    On much data a loss falls for thousands of steps, ever more slowly: what counts as standing
    still grows with the run.
    """
    half = max(PLATEAU_STEPS, len(losses) // 2) // 2
    window = losses[-2 * half :]
    if len(window) < 2 * half or not all(map(math.isfinite, window)):
        return None
    earlier, earlier_variance = _mean_and_variance(window[:half])
    later, later_variance = _mean_and_variance(window[half:])
    noise = math.sqrt((earlier_variance + later_variance) / half)
    # The halves' middles are half of the steps apart.
    if earlier > 0 and 2 * (abs(earlier - later) + noise) <= PLATEAU_PROGRESS * earlier:
        return _raise(f"{earlier:.3f} and {later:.3f} over the last {2 * half} steps", rate)
    if earlier - later > noise:
        return None
    return _validations_stand(validations, rate)


def _validations_stand(validations: Sequence[Validation], rate: float | None) -> Advice | None:
    """Single batches may be too noisy to tell; validations are always of the same records."""
    finite = [each for each in validations if math.isfinite(each.loss)]
    if len(finite) < PLATEAU_VALIDATIONS:
        return None
    half = len(finite) // 2
    before = min(each.loss for each in finite[:half])
    since = min(each.loss for each in finite[half:])
    if since < before * (1 - WORSE):
        return None
    return _raise(
        f"validation {before:.3f} at best until step {finite[half - 1].step}, {since:.3f} since",
        rate,
    )


def _raise(evidence: str, rate: float | None) -> Advice:
    change = ("learning_rate", rate * 1.5) if rate else None
    to = f" to {recipes.rate_text(rate * 1.5)}" if rate else ""
    message = f"The loss no longer falls: raise the learning rate by half{to}, or stop here."
    return Advice("plateau", message, evidence, change)


def _mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((each - mean) ** 2 for each in values) / (len(values) - 1)


def _overfitting(
    losses: Sequence[float], validations: Sequence[Validation], lately: Sequence[Validation]
) -> Advice | None:
    """Validation has been worse than its best twice in a row, while training got better.

    Only what came `lately`, since a change of the rate, is compared with the losses of that time.
    """
    finite = [each for each in lately if math.isfinite(each.loss)]
    if len(finite) < 3 or len(losses) < RISEN_STEPS:
        return None
    turn = min(finite, key=lambda each: each.loss)
    later = [each for each in finite[-2:] if each.step > turn.step]
    if len(later) < 2 or any(each.loss < turn.loss * (1 + WORSE) for each in later):
        return None
    half = len(losses) // 2
    if statistics.fmean(losses[half:]) >= statistics.fmean(losses[:half]):
        return None
    best = min(
        (each for each in validations if math.isfinite(each.loss)), key=lambda each: each.loss
    )
    return Advice(
        "overfitting",
        f"Stop and use the checkpoint of step {best.step}: the model is learning the training "
        "records by heart.",
        f"validation {turn.loss:.3f} at step {turn.step}, {later[-1].loss:.3f} at step "
        f"{later[-1].step}, while the training loss falls",
    )


def _swap(samples: Sequence[Machine], recipe: Recipe | None) -> Advice | None:
    used = [each.swap_used for each in samples if each.swap_used is not None]
    if len(used) < 2 or used[-1] - used[0] < SWAP_GROWTH:
        return None
    return Advice(
        "swap",
        "The machine is swapping, which makes every step slow: close other programs, or stop and "
        f"train with {_smaller(recipe)}.",
        f"swap grew from {_gigabytes(used[0])} to {_gigabytes(used[-1])} GB",
    )


def _pressure(samples: Sequence[Machine], recipe: Recipe | None) -> Advice | None:
    levels = [each.memory_pressure for each in samples[-LOOKS:]]
    if len(levels) == LOOKS and set(levels) == {"warning"}:
        return Advice(
            "pressure",
            "Memory is short, and the system has begun to compress and to swap: close other "
            f"programs, or stop and train with {_smaller(recipe)}.",
            f"memory pressure has been at warning for {LOOKS} looks",
        )
    if not levels or levels[-1] != "critical":
        return None
    return Advice(
        "pressure",
        "The system is about to end programs for want of memory: close some, or stop and train "
        f"with {_smaller(recipe)}.",
        "memory pressure is critical",
    )


def _smaller(recipe: Recipe | None) -> str:
    """The mildest change that needs less memory, in words."""
    change = next(_reductions(recipe), None) if recipe else None
    return f"{change[0]} {_shown(change[1])}" if change else "a smaller batch"


def _display(seconds: Sequence[float]) -> Advice | None:
    """Steps so long that macOS may end the training for holding up the display."""
    if not seconds or statistics.median(seconds) < WATCHDOG_SECONDS:
        return None
    return Advice(
        "display",
        "macOS may end a training whose GPU work holds up the display: let the display sleep "
        "(pmset displaysleepnow), or train with a smaller batch.",
        f"a step takes {statistics.median(seconds):.1f} s on this Mac's GPU",
    )


def after_end(began: float, final: float, recipe: Recipe) -> Advice | None:
    """What is to be said of a run that ended in order with such a loss, at first and at last."""
    if not final > max(began * RISEN, RUINED):
        return None
    rate = recipes.rate_text(_rate_to_start_again_with(recipe))
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
            f"Halve the learning rate to {recipes.rate_text(rate)} and resume.",
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


def _idle_gpu(samples: Sequence[Machine]) -> Advice | None:
    """A GPU that waits, and what it most likely waits for."""
    shares = [each.gpu_share for each in samples[-LOOKS:] if each.gpu_share is not None]
    if len(shares) < LOOKS or statistics.fmean(shares) >= IDLE_SHARE:
        return None
    loads = [each.cpu_share for each in samples[-LOOKS:] if each.cpu_share is not None]
    load = statistics.fmean(loads) if loads else 0.0
    evidence = f"the GPU was {statistics.fmean(shares):.0%} busy over the last {LOOKS} looks"
    if load >= BUSY_SHARE:
        return Advice(
            "speed",
            "The GPU waits for the processor, which is at its limit: close other programs.",
            f"{evidence}, the processor {load:.0%}",
        )
    return Advice(
        "speed",
        "The GPU waits for work: a larger batch uses it better, if there is memory for it.",
        evidence,
    )


def _shown(value: object) -> str:
    return "on" if value is True else str(value)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f}"

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
    "plateau",
    "overfitting",
    "swap",
    "pressure",
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


class Machine(Protocol):
    """One look at the machine; a figure that can't be had is None."""

    @property
    def swap_used(self) -> int | None: ...
    @property
    def memory_pressure(self) -> str | None: ...
    @property
    def gpu_share(self) -> float | None: ...


MANY_EPOCHS: Final = 10
MUCH_UNSEEN: Final = 0.5
"""Epochs below which most of the records are never trained on."""
UNUSUAL_RATE: Final = 4.0
"""Times the usual rate; small models and calm schedules bear more than the rule says."""
"""More passes over the same records than this rather teach them by heart."""

FEW_RECORDS: Final = 500
WIDE_RANK: Final = 64

COSTLY_VALIDATION: Final = 0.25
"""Share of a run's work above which validation is worth a word; its batch costs a third."""

SHORTEST_LENGTH: Final = 256

# Before a run


def before_run(
    recipe: Recipe,
    bits: int | None,
    need: Callable[[Recipe], Need] | None = None,
    train_records: int | None = None,
    valid_records: int | None = None,
) -> list[Advice]:
    """What to think about before starting, the most pressing first.

    `bits` is the model's quantization, None for full precision. `need` estimates the memory of a
    recipe.
    """
    rules = [
        *(_memory(recipe, need) if need else []),
        *_learning_rate(recipe, bits),
        *(_data(recipe, train_records) if train_records else []),
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
    usual = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    suggested = high if rate > high else low
    effect = "steps this large often make the loss spike" if rate > high else "it will learn slowly"
    yield Advice(
        "learning_rate",
        f"Set learning_rate to {suggested:g}: for {what}{model} {usual} is usual, {effect}.",
        f"learning_rate is {rate:g}",
        ("learning_rate", suggested),
    )


def _memory(recipe: Recipe, need: Callable[[Recipe], Need]) -> Iterator[Advice]:
    now = need(recipe)
    if now.limit is None:
        return
    evidence = f"{_gigabytes(now.total)} of {_gigabytes(now.limit)} GB"
    if now.verdict == "wont_fit":
        yield _reduction(recipe, need, evidence)
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


def _reduction(recipe: Recipe, need: Callable[[Recipe], Need], evidence: str) -> Advice:
    """The smallest change that fits, tried in the order of what it costs the result."""
    for key, value in _reductions(recipe):
        smaller = need(recipes.replace(recipe, key, value))
        if smaller.verdict != "wont_fit":
            return Advice(
                "memory",
                f"It will not fit; with {key} {_shown(value)} it takes "
                f"{_gigabytes(smaller.total)} GB.",
                evidence,
                (key, value),
            )
    fitted, changes = fit(recipe, need)
    if fitted is None:
        return Advice(
            "memory",
            "It will not fit even at its smallest: choose a smaller or more "
            "strongly quantized model.",
            evidence,
        )
    listed = ", ".join(f"{key} {_shown(value)}" for key, value in changes)
    return Advice(
        "memory", f"It will not fit; with {listed} together it does.", evidence, changes[0]
    )


def fit(
    recipe: Recipe, need: Callable[[Recipe], Need]
) -> tuple[Recipe | None, list[tuple[str, Any]]]:
    """A recipe that fits, and what was changed; None where even the smallest does not.

    Checkpointing first (it costs only time), then a smaller batch, shorter records, fewer layers.
    """
    fitted = recipe
    for key, value in _reductions(recipe):
        if need(fitted).verdict != "wont_fit":
            break
        fitted = recipes.replace(fitted, key, value)
    if need(fitted).verdict == "wont_fit":
        return None, []
    changed = [
        (key, recipes.get(fitted, key))
        for key in recipes.PARAMETERS
        if recipes.get(fitted, key) != recipes.get(recipe, key)
    ]
    return fitted, changed


def _reductions(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Changes that need less memory, the mildest first and each key's in falling order."""
    if not recipe.grad_checkpoint:
        yield "grad_checkpoint", True
    yield from (("batch_size", each) for each in _halves(recipe.batch_size, 1))
    yield from (
        ("max_seq_length", each) for each in _halves(recipe.max_seq_length, SHORTEST_LENGTH)
    )
    layers = recipe.num_layers if recipe.num_layers > 0 else 32
    yield from (("num_layers", each) for each in _halves(layers, 1))


def _halves(value: int, smallest: int) -> Iterator[int]:
    while value // 2 >= smallest:
        value //= 2
        yield value


def _data(recipe: Recipe, records: int) -> Iterator[Advice]:
    epochs = recipes.epochs_for_iters(recipe.iters, records, recipe.batch_size)
    if epochs > MANY_EPOCHS:
        iters = recipes.iters_for_epochs(3, records, recipe.batch_size)
        yield Advice(
            "data",
            f"Train for fewer steps: {iters} see each record three times, and after many passes "
            "a model knows them by heart.",
            f"{recipe.iters} steps are {epochs:.0f} passes over {records} records",
            ("iters", iters),
        )
    elif epochs < MUCH_UNSEEN:
        iters = recipes.iters_for_epochs(1, records, recipe.batch_size)
        yield Advice(
            "data",
            f"Most records will not be seen: {iters} steps see each one once.",
            f"{recipe.iters} steps are {epochs:.0%} of {records} records",
            ("iters", iters),
        )
    rank = recipe.lora_parameters.rank
    if records < FEW_RECORDS and rank >= WIDE_RANK and recipe.fine_tune_type != "full":
        yield Advice(
            "data",
            "Set rank to 8: so few records are easily learnt by heart by a wide adapter.",
            f"rank {rank} for {records} records",
            ("lora_parameters.rank", 8),
        )


def _validation(recipe: Recipe, records: int) -> Iterator[Advice]:
    batches = math.ceil(records / recipe.batch_size)
    if recipe.val_batches >= 0:
        batches = min(batches, recipe.val_batches)
    times = math.ceil(recipe.iters / recipe.steps_per_eval)
    share = times * batches / 3 / recipe.iters
    if share > COSTLY_VALIDATION:
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

SPIKE_DEVIATIONS: Final = 4.0
SPIKE_RISE: Final = 0.25

PLATEAU_STEPS: Final = 80
PLATEAU_PROGRESS: Final = 0.03

WORSE: Final = 0.01
"""A validation counts as worse from this share above the best."""

SWAP_GROWTH: Final = 512 * 1024**2
IDLE_SHARE: Final = 0.5
LOOKS: Final = 10
"""Samples that a statement about the machine needs."""


def during_run(
    losses: Sequence[float],
    validations: Sequence[Validation] = (),
    samples: Sequence[Machine] = (),
    learning_rate: float | None = None,
) -> list[Advice]:
    """What a run's figures say, the most pressing first.

    `losses` are those of each step since the rate was last changed by hand, `samples` the looks
    at the machine since the run started. Without a `learning_rate` no change of it is proposed.
    """
    spike = _spike(losses, learning_rate)
    worse = _overfitting(losses, validations)
    plateau = None if spike or worse else _plateau(losses, learning_rate)
    found = (spike, worse, plateau, _swap(samples), _pressure(samples), _idle_gpu(samples))
    return [each for each in found if each is not None]


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
    if now < usual + max(SPIKE_DEVIATIONS * spread, SPIKE_RISE * usual):
        return None
    return _halve("The loss has spiked", f"{usual:.3f} before, {now:.3f} now", rate)


def _halve(what: str, evidence: str, rate: float | None) -> Advice:
    change = ("learning_rate", rate / 2) if rate else None
    to = f" to {rate / 2:.3g}" if rate else ""
    return Advice("spike", f"{what}: halve the learning rate{to}.", evidence, change)


def _plateau(losses: Sequence[float], rate: float | None) -> Advice | None:
    """Two halves of the latest steps differ by less than their noise leaves certain."""
    window = losses[-PLATEAU_STEPS:]
    if len(window) < PLATEAU_STEPS or not all(map(math.isfinite, window)):
        return None
    half = PLATEAU_STEPS // 2
    first, second = window[:half], window[half:]
    earlier, later = statistics.fmean(first), statistics.fmean(second)
    noise = math.sqrt((statistics.variance(first) + statistics.variance(second)) / half)
    if earlier <= 0 or abs(earlier - later) + noise > PLATEAU_PROGRESS * earlier:
        return None
    change = ("learning_rate", rate * 1.5) if rate else None
    to = f" to {rate * 1.5:.3g}" if rate else ""
    return Advice(
        "plateau",
        f"The loss no longer falls: raise the learning rate by half{to}, or stop here.",
        f"{earlier:.3f} and {later:.3f} over the last {PLATEAU_STEPS} steps",
        change,
    )


def _overfitting(losses: Sequence[float], validations: Sequence[Validation]) -> Advice | None:
    """Validation has been worse than its best twice in a row, while training got better."""
    finite = [each for each in validations if math.isfinite(each.loss)]
    if len(finite) < 3 or len(losses) < 2:
        return None
    best = min(finite, key=lambda each: each.loss)
    later = [each for each in finite[-2:] if each.step > best.step]
    if len(later) < 2 or any(each.loss < best.loss * (1 + WORSE) for each in later):
        return None
    half = len(losses) // 2
    if statistics.fmean(losses[half:]) >= statistics.fmean(losses[:half]):
        return None
    return Advice(
        "overfitting",
        f"Stop and use the checkpoint of step {best.step}: the model is learning the training "
        "records by heart.",
        f"validation {best.loss:.3f} at step {best.step}, {later[-1].loss:.3f} at step "
        f"{later[-1].step}, while the training loss falls",
    )


def _swap(samples: Sequence[Machine]) -> Advice | None:
    used = [each.swap_used for each in samples if each.swap_used is not None]
    if len(used) < 2 or used[-1] - used[0] < SWAP_GROWTH:
        return None
    return Advice(
        "swap",
        "The machine is swapping, which makes every step slow: close other programs, or stop and "
        "resume with grad_checkpoint on or a smaller batch.",
        f"swap grew from {_gigabytes(used[0])} to {_gigabytes(used[-1])} GB",
    )


def _pressure(samples: Sequence[Machine]) -> Advice | None:
    if not samples or samples[-1].memory_pressure != "critical":
        return None
    return Advice(
        "pressure",
        "The system is about to end programs for want of memory: close some, or stop and save.",
        "memory pressure is critical",
    )


def _idle_gpu(samples: Sequence[Machine]) -> Advice | None:
    shares = [each.gpu_share for each in samples[-LOOKS:] if each.gpu_share is not None]
    if len(shares) < LOOKS or statistics.fmean(shares) >= IDLE_SHARE:
        return None
    return Advice(
        "speed",
        "The GPU waits for work: a larger batch uses it better, if there is memory for it.",
        f"the GPU was {statistics.fmean(shares):.0%} busy over the last {LOOKS} looks",
    )


def _shown(value: object) -> str:
    return "on" if value is True else str(value)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f}"

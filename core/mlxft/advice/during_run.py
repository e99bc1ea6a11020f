"""Advice on a live run, from its own figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

from mlxft.advice.before_run import UNUSUAL_RATE, usual_learning_rates
from mlxft.advice.fit import reductions
from mlxft.advice.preferences import on_preference
from mlxft.advice.types import (
    Advice,
    MachineSample,
    PreferenceCurves,
    RateChange,
    Validation,
    gigabytes,
    shown,
)
from mlxft.recipe import Recipe
from mlxft.text import figures

SPIKE_STEPS: Final = 5
"""The latest steps, which are checked for a spike."""


SPIKE_BASE: Final = 30
"""The steps before them, which define the usual loss."""


RISEN_STEPS: Final = 10
"""The latest steps, which are compared with the first ones."""


RISEN: Final = 2.0
"""Factor on the first losses from which the loss counts as risen."""


DIVERGED_LOSS: Final = 4.0
"""About the loss of guessing among 50 tokens: a single batch may reach it, a working model not."""


GUESSING: Final = 10.0
"""About the loss of guessing among 20,000 to 150,000 tokens: no working model comes near it."""


SPIKE_DEVIATIONS: Final = 4.0


SPIKE_RISE: Final = 0.25


PLATEAU_STEPS: Final = 80
"""The fewest steps that are checked for a plateau; later it is the second half of all steps."""


PLATEAU_PROGRESS: Final = 0.03
"""Share of the loss that those steps must gain beyond their noise."""


PLATEAU_VALIDATIONS: Final = 6
"""The fewest validations whose two halves are compared."""


WORSE: Final = 0.01
"""Share above the best validation from which another counts as worse."""


SWAP_GROWTH: Final = 512 * 1024**2


IDLE_SHARE: Final = 0.5


BUSY_SHARE: Final = 0.9


MACHINE_SAMPLES: Final = 10
"""Samples needed for advice on the machine."""


WATCHDOG_SECONDS: Final = 5.0
"""GPU seconds per step from which macOS may end the process while the display is on."""


def during_run(
    losses: Sequence[float],
    validations: Sequence[Validation] = (),
    *,
    samples: Sequence[MachineSample] = (),
    learning_rate: float | None = None,
    recipe: Recipe | None = None,
    metal_seconds: Sequence[float] = (),
    changed: RateChange | None = None,
    beginning: Sequence[float] = (),
    gradients: Sequence[float] = (),
    preference: PreferenceCurves | None = None,
) -> list[Advice]:
    """What to do about a live run, the most important first.

    `losses` are those of every step since the learning rate was last `changed` manually,
    `beginning` those of the run's first steps, `gradients` the norms of the latest ones. `samples`
    are of the machine since the start, `metal_seconds` the times of the latest steps on an Apple
    GPU, `preference` what a loss says that trains one. No new rate is suggested without
    `learning_rate`, no smaller recipe without `recipe`.
    """
    validations = [each for each in validations if each.step]  # The baseline is of no step.
    recent = [each for each in validations if changed is None or each.step > changed.step]
    lowered = changed is not None and changed.lowered
    beginning = beginning or losses
    diverged = _diverged(losses, beginning, gradients, lowered, recipe)
    spike = diverged or _spike(losses, learning_rate) or _risen(losses, learning_rate)
    overfitting = None if diverged else _overfitting(losses, validations, recent)
    above = _is_above_its_beginning(losses, beginning)
    trains_pairs = preference is not None and recipe is not None
    flat = spike or overfitting or above or trains_pairs
    plateau = None if flat else _plateau(losses, recent, learning_rate)
    drifts = None
    if preference is not None and recipe is not None:
        drifts = on_preference(preference, recipe, learning_rate)
    # A pair's loss jumps with the pair, and ends near 0 where all are learned.
    found = (
        diverged if trains_pairs else spike,
        drifts,
        overfitting,
        _pressure(samples, recipe),
        _swap(samples, recipe),
        _display(metal_seconds),
        plateau,
        _idle_gpu(samples),
    )
    return [each for each in found if each is not None]


def _diverged(
    losses: Sequence[float],
    beginning: Sequence[float],
    gradients: Sequence[float],
    lowered: bool,
    recipe: Recipe | None,
) -> Advice | None:
    """The loss stays far above its beginning although the rate was lowered, or the gradient is 0:
    only a new start helps."""
    first, now = _first_and_latest(beginning, losses)
    if (
        now is None
        or min(losses[-RISEN_STEPS:]) <= first
        or now < max(first * RISEN, DIVERGED_LOSS)
    ):
        return None
    norms = gradients[-RISEN_STEPS:]
    vanished = len(norms) == RISEN_STEPS and not any(norms)
    if not (vanished or lowered):
        return None
    rate = f" of {figures.learning_rate(restart_rate(recipe))}" if recipe else ""
    evidence = f"loss {first:.3f} at first, {now:.3f} now"
    evidence += ", the gradient is 0" if vanished else f", {len(losses)} steps at a lower rate"
    return Advice(
        "diverged",
        f"The run has diverged: stop, and train again at a lower learning rate{rate}.",
        evidence,
    )


def restart_rate(recipe: Recipe) -> float:
    """A tenth of the learning rate that failed, and at most an unusually high one."""
    _, high = usual_learning_rates(None, recipe.fine_tune_type, recipe.loss)
    return min(recipe.learning_rate / 10, high * UNUSUAL_RATE)


def _first_and_latest(
    beginning: Sequence[float], losses: Sequence[float]
) -> tuple[float, float | None]:
    """The run's first loss and its latest one, None before there are enough steps.

    If the loss jumps at the second step, only the very first one counts as the beginning.
    """
    first, latest = beginning[:SPIKE_STEPS], losses[-RISEN_STEPS:]
    if len(losses) < SPIKE_STEPS + RISEN_STEPS or not all(map(math.isfinite, (*first, *latest))):
        return math.nan, None
    now = statistics.median(latest)
    return (first[0] if now >= GUESSING else statistics.median(first)), now


def _spike(losses: Sequence[float], rate: float | None) -> Advice | None:
    """The latest losses are far above the usual ones before them."""
    latest, before = losses[-SPIKE_STEPS:], losses[-SPIKE_STEPS - SPIKE_BASE : -SPIKE_STEPS]
    if any(not math.isfinite(loss) for loss in latest):
        return _halve("The loss is NaN or infinite", "a loss that is not finite", rate)
    finite = [loss for loss in before if math.isfinite(loss)]
    if len(latest) < SPIKE_STEPS or len(finite) < SPIKE_BASE:
        return None
    usual = statistics.median(finite)
    spread = statistics.median(abs(loss - usual) for loss in finite) * 1.4826
    now = statistics.median(latest)
    # Single hard batches barely widen the spread but lie far above it; a spike exceeds them too.
    if now < max(*finite, usual + max(SPIKE_DEVIATIONS * spread, SPIKE_RISE * usual)):
        return None
    return _halve("The loss has spiked", f"loss {usual:.3f} before, {now:.3f} now", rate)


def _is_above_its_beginning(losses: Sequence[float], beginning: Sequence[float]) -> bool:
    """Whether a higher rate would not help, however flat the loss is."""
    first, now = _first_and_latest(beginning, losses)
    return now is not None and now > first * (1 + SPIKE_RISE)


def _risen(losses: Sequence[float], rate: float | None) -> Advice | None:
    """A spike before there are enough steps to know the usual loss."""
    first, now = _first_and_latest(losses, losses)
    if now is None or min(losses[-RISEN_STEPS:]) <= first or now < first * RISEN:
        return None
    return _halve("The loss has risen", f"loss {first:.3f} at first, {now:.3f} now", rate)


def _halve(what: str, evidence: str, rate: float | None) -> Advice:
    change = ("learning_rate", rate / 2) if rate else None
    to = f" to {figures.learning_rate(rate / 2)}" if rate else ""
    return Advice("spike", f"{what}: halve the learning rate{to}.", evidence, change)


def _plateau(
    losses: Sequence[float], validations: Sequence[Validation], rate: float | None
) -> Advice | None:
    """The second half of the steps has gained too little, by the losses or the validations.

    With much data a loss falls for thousands of steps, ever more slowly, so the steps compared
    grow with the run.
    """
    half = max(PLATEAU_STEPS, len(losses) // 2) // 2
    window = losses[-2 * half :]
    if len(window) < 2 * half or not all(map(math.isfinite, window)):
        return None
    earlier, earlier_variance = _mean_and_variance(window[:half])
    later, later_variance = _mean_and_variance(window[half:])
    noise = math.sqrt((earlier_variance + later_variance) / half)
    # The means are half of the steps apart, hence the factor of 2.
    if earlier > 0 and 2 * (abs(earlier - later) + noise) <= PLATEAU_PROGRESS * earlier:
        return _raise(f"loss {earlier:.3f} and {later:.3f} over the last {2 * half} steps", rate)
    if earlier - later > noise:
        return None
    return _flat_validations(validations, rate)


def _flat_validations(validations: Sequence[Validation], rate: float | None) -> Advice | None:
    """Steps may be too noisy to judge by; validations always use the same records."""
    finite = [each for each in validations if math.isfinite(each.loss)]
    if len(finite) < PLATEAU_VALIDATIONS:
        return None
    half = len(finite) // 2
    before = min(each.loss for each in finite[:half])
    since = min(each.loss for each in finite[half:])
    if since < before * (1 - WORSE):
        return None
    return _raise(
        f"best validation {before:.3f} until step {finite[half - 1].step}, {since:.3f} since",
        rate,
    )


def _raise(evidence: str, rate: float | None) -> Advice:
    if rate == 0:
        message = "The schedule has lowered the learning rate to 0, so no step changes the weights "
        return Advice("plateau", f"{message}any more: stop here.", evidence)
    change = ("learning_rate", rate * 1.5) if rate else None
    to = f" to {figures.learning_rate(rate * 1.5)}" if rate else ""
    message = f"The loss has plateaued: raise the learning rate by half{to}, or stop here."
    return Advice("plateau", message, evidence, change)


def _mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((each - mean) ** 2 for each in values) / (len(values) - 1)


def _overfitting(
    losses: Sequence[float], validations: Sequence[Validation], recent: Sequence[Validation]
) -> Advice | None:
    """Validation was worse than its best twice in a row, while the training loss fell.

    Only `recent` validations, since the rate was changed, are compared with the losses.
    """
    finite = [each for each in recent if math.isfinite(each.loss)]
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
        f"The model is overfitting: stop and use the checkpoint of step {best.step}.",
        f"validation {turn.loss:.3f} at step {turn.step}, {later[-1].loss:.3f} at step "
        f"{later[-1].step}, while the training loss falls",
    )


def _swap(samples: Sequence[MachineSample], recipe: Recipe | None) -> Advice | None:
    used = [each.swap_used for each in samples if each.swap_used is not None]
    if len(used) < 2 or used[-1] - used[0] < SWAP_GROWTH:
        return None
    return Advice(
        "swap",
        "The machine is swapping, which slows every step: close other programs, or stop and train "
        f"with {_smaller(recipe)}.",
        f"swap grew from {gigabytes(used[0])} to {gigabytes(used[-1])} GB",
    )


def _pressure(samples: Sequence[MachineSample], recipe: Recipe | None) -> Advice | None:
    levels = [each.memory_pressure for each in samples[-MACHINE_SAMPLES:]]
    if len(levels) == MACHINE_SAMPLES and set(levels) == {"warning"}:
        return Advice(
            "pressure",
            "Memory is short, and the system compresses and swaps: close other programs, or stop "
            f"and train with {_smaller(recipe)}.",
            f"memory pressure at warning in the last {MACHINE_SAMPLES} samples",
        )
    if not levels or levels[-1] != "critical":
        return None
    return Advice(
        "pressure",
        "The system is about to kill programs for lack of memory: close some, or stop and train "
        f"with {_smaller(recipe)}.",
        "memory pressure is critical",
    )


def _smaller(recipe: Recipe | None) -> str:
    """The mildest change that needs less memory."""
    change = next(reductions(recipe), None) if recipe else None
    return f"{change[0]} {shown(change[1])}" if change else "a smaller batch"


def _display(seconds: Sequence[float]) -> Advice | None:
    """Steps so long that macOS may end the process for blocking the display."""
    if not seconds or statistics.median(seconds) < WATCHDOG_SECONDS:
        return None
    return Advice(
        "display",
        "macOS may end a run whose GPU work blocks the display: let the display sleep (pmset "
        "displaysleepnow), or restart it with gpu_work: short or a smaller batch.",
        f"a step takes {statistics.median(seconds):.1f} s on this Mac's GPU",
    )


def _idle_gpu(samples: Sequence[MachineSample]) -> Advice | None:
    """A GPU that waits, and what it most likely waits for."""
    shares = [each.gpu_share for each in samples[-MACHINE_SAMPLES:] if each.gpu_share is not None]
    if len(shares) < MACHINE_SAMPLES or statistics.fmean(shares) >= IDLE_SHARE:
        return None
    loads = [each.cpu_share for each in samples[-MACHINE_SAMPLES:] if each.cpu_share is not None]
    load = statistics.fmean(loads) if loads else 0.0
    evidence = f"GPU {statistics.fmean(shares):.0%} busy over the last {MACHINE_SAMPLES} samples"
    if load >= BUSY_SHARE:
        return Advice(
            "speed",
            "The GPU waits for the CPU, which is at its limit: close other programs.",
            f"{evidence}, the CPU {load:.0%}",
        )
    return Advice(
        "speed",
        "The GPU waits for work: a larger batch uses it better, if there is memory for it.",
        evidence,
    )

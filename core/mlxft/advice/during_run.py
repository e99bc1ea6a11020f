"""What a running job's own figures say is wrong, with the change that helps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

from mlxft.advice.before_run import UNUSUAL_RATE, usual_learning_rates
from mlxft.advice.fit import reductions
from mlxft.advice.types import Advice, Machine, RateChange, Validation, gigabytes, shown
from mlxft.recipe import Recipe
from mlxft.text import figures

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
    lower = rate_to_start_again_with(recipe) if recipe else None
    rate = f" of {figures.learning_rate(lower)}" if lower else ""
    why = "the weights learn no more" if dead else "the loss has not come back"
    evidence = f"{began:.3f} at first, {now:.3f} now"
    return Advice(
        "ruined",
        f"Stop, and train again with a lower learning rate{rate}: {why}.",
        evidence + (", the gradient is 0" if dead else f", {len(losses)} steps at a lower rate"),
    )


def rate_to_start_again_with(recipe: Recipe) -> float:
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
    to = f" to {figures.learning_rate(rate / 2)}" if rate else ""
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
    to = f" to {figures.learning_rate(rate * 1.5)}" if rate else ""
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
        f"swap grew from {gigabytes(used[0])} to {gigabytes(used[-1])} GB",
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
    change = next(reductions(recipe), None) if recipe else None
    return f"{change[0]} {shown(change[1])}" if change else "a smaller batch"


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

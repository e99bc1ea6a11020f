"""How often the advice given during a run is wrong, and how soon it is right.

Loss curves are simulated with a fixed seed: healthy runs (exponential or slow, with noise and hard
batches), and runs in which something happens at a known step. Two recorded healthy runs are checked
too. Each run is checked every few steps, as a viewer does; a run counts as a false alarm if any
check gives advice.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mlxft.advice.during_run import SPIKE_STEPS, during_run
from mlxft.advice.types import RateChange
from mlxft.runs.steps import EXACT

EVERY: Final = 5
"""Steps between two checks."""

STEPS: Final = 1000
"""Length of a simulated run."""

VALIDATE: Final = 50
"""Steps between two validations."""

RECORDED: Final = Path(__file__).parents[1] / "tests" / "unit" / "advice" / "recorded_curves.json"


@dataclass(frozen=True)
class Validated:
    """A validation's loss."""

    step: int
    loss: float


@dataclass(frozen=True)
class Curve:
    """A run's losses and validations, and the step at which something happens, if it does."""

    losses: Sequence[float]
    validations: Sequence[Validated] = ()
    event: int | None = None
    lowered: int | None = None
    """The step at which the learning rate is halved manually, if it is."""


def fast(step: int) -> float:
    """2.5 falling to 0.7."""
    return 0.5 + 2.0 * math.exp(-step / (STEPS / 2.5))


def slow(step: int) -> float:
    """2.4 falling ever more slowly, as with much data: 7% in the second half."""
    return 0.9 + 1.5 * math.pow(1 + step / 15, -0.5)


def noisy(shape: Callable[[int], float], seed: int, noise: float, hard: float) -> list[float]:
    """The shape with noise, and a share of batches whose loss is 1.6 times as high."""
    source = random.Random(seed)
    return [
        shape(step) * (1.6 if source.random() < hard else 1.0) * max(0.2, source.gauss(1, noise))
        for step in range(STEPS)
    ]


def validated(shape: Callable[[int], float], seed: int, noise: float) -> list[Validated]:
    """Validations of the shape, with noise."""
    source = random.Random(1000 + seed)
    steps = range(VALIDATE, STEPS + 1, VALIDATE)
    return [Validated(step, shape(step) * source.gauss(1, noise)) for step in steps]


def healthy(shape: Callable[[int], float], noise: float, hard: float, seed: int) -> Curve:
    """A healthy run."""
    return Curve(noisy(shape, seed, noise, hard), validated(shape, seed, 0.005))


def jumping(noise: float, factor: float, seed: int) -> Curve:
    """A run whose loss jumps at its middle and stays there."""
    losses = noisy(fast, seed, noise, 0.0)
    half = STEPS // 2
    return Curve([*losses[:half], *(factor * each for each in losses[half:])], (), half)


def lowered(shape: Callable[[int], float], noise: float, seed: int) -> Curve:
    """A healthy run whose rate is lowered all the same."""
    curve = healthy(shape, noise, 0.0, seed)
    return replace(curve, lowered=STEPS // 5)


def diverged(noise: float, seed: int) -> Curve:
    """A run at too high a rate, which lowering it at step 30 doesn't bring back."""
    return replace(too_fast(noise, seed), event=30, lowered=30)


def too_fast(noise: float, seed: int) -> Curve:
    """A run whose loss rises fivefold within its first 20 steps."""

    def rising(step: int) -> float:
        return 2.5 * (1 + min(step, 20) / 5)

    return Curve(noisy(rising, seed, noise, 0.0), (), 0)


def stuck(noise: float, seed: int) -> Curve:
    """A run whose loss is flat after a third."""
    third = STEPS // 3

    def flat(step: int) -> float:
        return fast(min(step, third))

    return Curve(noisy(flat, seed, noise, 0.0), validated(flat, seed, 0.005), third)


def overfitting(seed: int) -> Curve:
    """A run whose validation loss turns at the middle and rises by a tenth until the end."""
    half = STEPS // 2

    def turning(step: int) -> float:
        return fast(min(step, half)) * (1 + 0.2 * max(0, step - half) / STEPS)

    return Curve(noisy(fast, seed, 0.1, 0.0), validated(turning, seed, 0.005), half)


def recorded() -> list[Curve]:
    """Healthy real runs."""
    runs = json.loads(RECORDED.read_text()).values()
    return [
        Curve(run["losses"], [Validated(*each) for each in run["validations"]])
        for run in runs
        if isinstance(run, dict)
    ]


def advised(curve: Curve) -> dict[str, list[int]]:
    """The steps at which advice on each topic was given."""
    found: dict[str, list[int]] = {}
    for end in range(EVERY, len(curve.losses) + 1, EVERY):
        known = [each for each in curve.validations if each.step <= end]
        is_lowered = curve.lowered is not None and end > curve.lowered
        changed = RateChange(curve.lowered or 0, lowered=True) if is_lowered else None
        since = max(0, end - EXACT, changed.step if changed else 0)
        losses, beginning = curve.losses[since:end], curve.losses[:SPIKE_STEPS]
        for advice in during_run(losses, known, changed=changed, beginning=beginning):
            found.setdefault(advice.topic, []).append(end)
    return found


def false_alarms(curves: Sequence[Curve]) -> dict[str, float]:
    """For each topic: false alarms per 1,000 checks, and the share of runs with any."""
    checks = sum(len(curve.losses) // EVERY for curve in curves)
    found = [advised(curve) for curve in curves]
    figures: dict[str, float] = {}
    for topic in ("spike", "diverged", "plateau", "overfitting"):
        wrong = [len(each.get(topic, [])) for each in found]
        figures[f"{topic}_per_1000_checks"] = round(1000 * sum(wrong) / checks, 2)
        figures[f"{topic}_runs"] = round(sum(map(bool, wrong)) / len(curves), 3)
    return figures


def detection(curves: Sequence[Curve], topic: str) -> dict[str, float]:
    """The share of runs in which it was detected after it happened, and after how many steps."""
    delays = []
    for curve in curves:
        assert curve.event is not None
        event = curve.event
        after = [step - event for step in advised(curve).get(topic, []) if step > event]
        delays += after[:1]
    return {
        "detected": round(len(delays) / len(curves), 3),
        "steps_until": statistics.median(delays) if delays else math.nan,
    }


def measure(runs: int) -> dict[str, dict[str, float]]:
    """All cases."""
    seeds = range(runs)
    return {
        "fast, noise 5%": false_alarms([healthy(fast, 0.05, 0.0, each) for each in seeds]),
        "fast, noise 20%": false_alarms([healthy(fast, 0.2, 0.0, each) for each in seeds]),
        "fast, noise 10%, hard batches": false_alarms(
            [healthy(fast, 0.1, 0.05, each) for each in seeds]
        ),
        "slow, noise 5%": false_alarms([healthy(slow, 0.05, 0.0, each) for each in seeds]),
        "slow, noise 20%": false_alarms([healthy(slow, 0.2, 0.0, each) for each in seeds]),
        "rate lowered, fast, noise 20%": false_alarms([lowered(fast, 0.2, each) for each in seeds]),
        "rate lowered, slow, noise 20%": false_alarms([lowered(slow, 0.2, each) for each in seeds]),
        "recorded": false_alarms(recorded()),
        "spike ×2, noise 10%": detection([jumping(0.1, 2.0, each) for each in seeds], "spike"),
        "spike ×4, noise 20%": detection([jumping(0.2, 4.0, each) for each in seeds], "spike"),
        "rising at the start, noise 20%": detection(
            [too_fast(0.2, each) for each in seeds], "spike"
        ),
        "diverged, noise 20%": detection([diverged(0.2, each) for each in seeds], "diverged"),
        "plateau, noise 5%": detection([stuck(0.05, each) for each in seeds], "plateau"),
        "plateau, noise 20%": detection([stuck(0.2, each) for each in seeds], "plateau"),
        "overfitting": detection([overfitting(each) for each in seeds], "overfitting"),
    }


def main() -> None:
    """Print the figures, as one JSON line with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--runs", type=int, default=40, help="runs of each case")
    options = parser.parse_args()
    found = measure(options.runs)
    if options.json:
        print(json.dumps(found))
        return
    for name, case in found.items():
        print(f"{name:32} " + "  ".join(f"{key} {value:g}" for key, value in case.items()))


if __name__ == "__main__":
    main()

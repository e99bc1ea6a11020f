"""How often the advice given during a run is wrong, and how soon it is right.

Curves are made with chance of a fixed seed: runs that go well (exponential or slow, with noise and
hard batches), and runs in which something happens at a known step. Two recorded runs go well too.
Each run is looked at after every few steps, as a viewer does; a run counts as alarmed if any of its
looks says so.
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
"""Steps between two looks."""

STEPS: Final = 1000
"""Length of a run that is made here."""

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
    """The step at which the learning rate is halved by hand, if it is."""


def fast(step: int) -> float:
    """2.5 falling to 0.7, and on."""
    return 0.5 + 2.0 * math.exp(-step / (STEPS / 2.5))


def slow(step: int) -> float:
    """2.4 falling ever more slowly, as on much data: 7 % in the second half."""
    return 0.9 + 1.5 * (1 + step / 15) ** -0.5


def noisy(shape: Callable[[int], float], seed: int, noise: float, hard: float) -> list[float]:
    """The shape with noise, and a share of batches whose loss is 1.6 times as high."""
    chance = random.Random(seed)
    return [
        shape(step) * (1.6 if chance.random() < hard else 1.0) * max(0.2, chance.gauss(1, noise))
        for step in range(STEPS)
    ]


def validated(shape: Callable[[int], float], seed: int, noise: float) -> list[Validated]:
    """Validations of the shape, which differ from it by chance."""
    chance = random.Random(1000 + seed)
    steps = range(VALIDATE, STEPS + 1, VALIDATE)
    return [Validated(step, shape(step) * chance.gauss(1, noise)) for step in steps]


def healthy(shape: Callable[[int], float], noise: float, hard: float, seed: int) -> Curve:
    """A run that goes well."""
    return Curve(noisy(shape, seed, noise, hard), validated(shape, seed, 0.005))


def jumping(noise: float, factor: float, seed: int) -> Curve:
    """A run whose loss jumps at its middle and stays there."""
    losses = noisy(fast, seed, noise, 0.0)
    half = STEPS // 2
    return Curve([*losses[:half], *(factor * each for each in losses[half:])], (), half)


def lowered(shape: Callable[[int], float], noise: float, seed: int) -> Curve:
    """A run that goes well and whose rate is lowered nevertheless."""
    curve = healthy(shape, noise, 0.0, seed)
    return replace(curve, lowered=STEPS // 5)


def lost(noise: float, seed: int) -> Curve:
    """A run that went too fast, and that a rate lowered at its step 30 doesn't bring back."""
    return replace(too_fast(noise, seed), event=30, lowered=30)


def too_fast(noise: float, seed: int) -> Curve:
    """A run whose loss rises to five times of what it was within its first 20 steps."""

    def rising(step: int) -> float:
        return 2.5 * (1 + min(step, 20) / 5)

    return Curve(noisy(rising, seed, noise, 0.0), (), 0)


def stuck(noise: float, seed: int) -> Curve:
    """A run whose loss stays where it is after a third."""
    third = STEPS // 3

    def still(step: int) -> float:
        return fast(min(step, third))

    return Curve(noisy(still, seed, noise, 0.0), validated(still, seed, 0.005), third)


def learnt_by_heart(seed: int) -> Curve:
    """A run whose validation turns at the middle and rises by a tenth until the end."""
    half = STEPS // 2

    def turning(step: int) -> float:
        return fast(min(step, half)) * (1 + 0.2 * max(0, step - half) / STEPS)

    return Curve(noisy(fast, seed, 0.1, 0.0), validated(turning, seed, 0.005), half)


def recorded() -> list[Curve]:
    """Real runs that went well."""
    runs = json.loads(RECORDED.read_text()).values()
    return [
        Curve(run["losses"], [Validated(*each) for each in run["validations"]])
        for run in runs
        if isinstance(run, dict)
    ]


def seen(curve: Curve) -> dict[str, list[int]]:
    """The steps at which each kind of advice was given, as a viewer looks."""
    found: dict[str, list[int]] = {}
    for end in range(EVERY, len(curve.losses) + 1, EVERY):
        known = [each for each in curve.validations if each.step <= end]
        is_lowered = curve.lowered is not None and end > curve.lowered
        changed = RateChange(curve.lowered or 0, lowered=True) if is_lowered else None
        since = max(0, end - EXACT, changed.step if changed else 0)
        losses, beginning = curve.losses[since:end], curve.losses[:SPIKE_STEPS]
        for advice in during_run(losses, known, changed=changed, beginning=beginning):
            found.setdefault(advice.kind, []).append(end)
    return found


def false_alarms(curves: Sequence[Curve]) -> dict[str, float]:
    """For each kind: looks that were wrong per 1,000, and the share of runs with any."""
    looks = sum(len(curve.losses) // EVERY for curve in curves)
    all_seen = [seen(curve) for curve in curves]
    figures: dict[str, float] = {}
    for kind in ("spike", "ruined", "plateau", "overfitting"):
        wrong = [len(each.get(kind, [])) for each in all_seen]
        figures[f"{kind}_per_1000_looks"] = round(1000 * sum(wrong) / looks, 2)
        figures[f"{kind}_runs"] = round(sum(map(bool, wrong)) / len(curves), 3)
    return figures


def detection(curves: Sequence[Curve], kind: str) -> dict[str, float]:
    """The share of runs in which it was seen after it happened, and after how many steps."""
    delays = []
    for curve in curves:
        assert curve.event is not None
        event = curve.event
        after = [step - event for step in seen(curve).get(kind, []) if step > event]
        delays += after[:1]
    return {
        "seen": round(len(delays) / len(curves), 3),
        "steps_until": statistics.median(delays) if delays else math.nan,
    }


def measure(runs: int) -> dict[str, dict[str, float]]:
    """All cases, so many runs each."""
    seeds = range(runs)
    return {
        "fast, noise 5 %": false_alarms([healthy(fast, 0.05, 0.0, each) for each in seeds]),
        "fast, noise 20 %": false_alarms([healthy(fast, 0.2, 0.0, each) for each in seeds]),
        "fast, noise 10 %, hard batches": false_alarms(
            [healthy(fast, 0.1, 0.05, each) for each in seeds]
        ),
        "slow, noise 5 %": false_alarms([healthy(slow, 0.05, 0.0, each) for each in seeds]),
        "slow, noise 20 %": false_alarms([healthy(slow, 0.2, 0.0, each) for each in seeds]),
        "rate lowered, fast, noise 20 %": false_alarms(
            [lowered(fast, 0.2, each) for each in seeds]
        ),
        "rate lowered, slow, noise 20 %": false_alarms(
            [lowered(slow, 0.2, each) for each in seeds]
        ),
        "recorded": false_alarms(recorded()),
        "spike ×2, noise 10 %": detection([jumping(0.1, 2.0, each) for each in seeds], "spike"),
        "spike ×4, noise 20 %": detection([jumping(0.2, 4.0, each) for each in seeds], "spike"),
        "rising at once, noise 20 %": detection([too_fast(0.2, each) for each in seeds], "spike"),
        "weights lost, noise 20 %": detection([lost(0.2, each) for each in seeds], "ruined"),
        "plateau, noise 5 %": detection([stuck(0.05, each) for each in seeds], "plateau"),
        "plateau, noise 20 %": detection([stuck(0.2, each) for each in seeds], "plateau"),
        "overfitting": detection([learnt_by_heart(each) for each in seeds], "overfitting"),
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

"""Advice on a live run that trains a preference, from its rewards and log-probabilities."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from mlxft.advice.types import Advice, PreferenceCurves
from mlxft.recipe import WITH_REFERENCE, Recipe
from mlxft.text import figures

STEPS: Final = 10
"""The latest steps, whose medians are judged, and the first ones that they are compared with."""

FALLEN: Final = 0.5
"""Share by which the chosen answers' log-probability may fall: half as low again is far off the
text that a model writes."""

EXPLODED: Final = 20.0
"""A margin of rewards at which a pair's loss is 2e-9: nothing is left to learn from it."""

UNLEARNED_STEPS: Final = 100
"""Steps after which accuracy should have left chance."""

CHANCE: Final = 0.55
"""Accuracy up to which nothing is learned."""


def on_preference(
    curves: PreferenceCurves, recipe: Recipe, learning_rate: float | None
) -> Advice | None:
    """The most important advice on the preference; None with the loss sft or where all is well."""
    if len(curves.accuracy) < 2 * STEPS:
        return None
    return next(_found(curves, recipe, learning_rate), None)


def _found(curves: PreferenceCurves, recipe: Recipe, rate: float | None) -> Iterator[Advice]:
    has_reference = recipe.loss in WITH_REFERENCE
    before, now = _median(curves.chosen_logp[:STEPS]), _median(curves.chosen_logp[-STEPS:])
    chosen, rejected = (
        _median(each[-STEPS:]) for each in (curves.chosen_reward, curves.rejected_reward)
    )
    if now < before * (1 + FALLEN):
        evidence = f"log-probability {before:.1f} at first, {now:.1f} now"
        what = "The chosen answers become improbable"
        if chosen < 0 and rejected < 0 and has_reference:
            what = "Both rewards collapse"
            evidence += f", rewards {chosen:.2f} and {rejected:.2f}"
        yield _lower(what, evidence, rate)
    margin = _median(curves.margin[-STEPS:])
    if has_reference and margin > EXPLODED:
        evidence = f"margin {margin:.1f} over the last {STEPS} steps"
        yield _lower("The margin explodes, and answers drift from the model", evidence, rate)
    accuracy = curves.accuracy[-UNLEARNED_STEPS // 2 :]
    if len(curves.accuracy) >= UNLEARNED_STEPS and _mean(accuracy) <= CHANCE:
        change = ("learning_rate", rate * 2) if rate else None
        yield Advice(
            "preference",
            "The preference isn't learned: raise the learning rate"
            f"{f' to {figures.learning_rate(rate * 2)}' if rate else ''}, or check that the pairs "
            "hold a pattern.",
            f"accuracy {_mean(accuracy):.1%} over the last {len(accuracy)} steps",
            change,
        )


def _lower(what: str, evidence: str, rate: float | None) -> Advice:
    change = ("learning_rate", rate / 2) if rate else None
    to = f" to {figures.learning_rate(rate / 2)}" if rate else ""
    return Advice(
        "preference",
        f"{what}: halve the learning rate{to}, or start again with a higher beta.",
        evidence,
        change,
    )


def _median(values: Sequence[float]) -> float:
    """Of the known values; NaN without any, which compares with nothing."""
    known = [each for each in values if math.isfinite(each)]
    return statistics.median(known) if known else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [each for each in values if math.isfinite(each)]
    return math.fsum(known) / len(known) if known else math.nan

"""Advice on a live run that trains a preference."""

from dataclasses import replace

import pytest

from mlxft.advice.during_run import during_run
from mlxft.advice.types import Advice, PreferenceCurves
from mlxft.recipe import Recipe

RECIPE = Recipe(loss="dpo", learning_rate=1e-5)
GOOD = PreferenceCurves(
    margin=[step / 20 for step in range(120)],
    accuracy=[0.5 + min(0.4, step / 50) for step in range(120)],
    chosen_reward=[step / 60 for step in range(120)],
    rejected_reward=[-step / 60 for step in range(120)],
    chosen_logp=[-40.0 - step / 100 for step in range(120)],
)


def advice(curves: PreferenceCurves) -> list[Advice]:
    losses = [0.7 - step / 400 for step in range(120)]
    return during_run(losses, learning_rate=1e-5, recipe=RECIPE, preference=curves)


def test_a_preference_that_is_learned_needs_none() -> None:
    assert advice(GOOD) == []


@pytest.mark.parametrize(
    ("curves", "message", "rate"),
    [
        (
            replace(GOOD, chosen_logp=[-40.0 - step for step in range(120)]),
            "The chosen answers become improbable: halve the learning rate to 5e-6",
            5e-6,
        ),
        (
            replace(
                GOOD,
                chosen_logp=[-40.0 - step for step in range(120)],
                chosen_reward=[-step / 10 for step in range(120)],
                rejected_reward=[-step / 5 for step in range(120)],
            ),
            "Both rewards collapse: halve the learning rate",
            5e-6,
        ),
        (
            replace(GOOD, margin=[step / 4 for step in range(120)]),
            "The margin explodes",
            5e-6,
        ),
        (replace(GOOD, accuracy=[0.5] * 120), "The preference isn't learned: raise", 2e-5),
    ],
)
def test_what_goes_wrong_is_named(curves: PreferenceCurves, message: str, rate: float) -> None:
    first = advice(curves)[0]
    assert first.message.startswith(message)
    assert first.change == ("learning_rate", rate)

"""What to do after a run that has failed, by its cause."""

from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.advice.after_run import after_failure
from mlxft.advice.types import Advice
from mlxft.recipe import Recipe


def recipe(**settings: Any) -> Recipe:
    return recipes.from_mapping({"learning_rate": 2e-4, **settings})


def halved(advice: Advice | None) -> tuple[str, Any] | None:
    assert advice is not None
    assert "Halve the learning rate" in advice.message
    return advice.change


class TestFailure:
    def test_gpu_work_that_macos_ended_because_it_blocked_the_display(self) -> None:
        advice = after_failure("gpu_watchdog", recipe())
        assert advice is not None
        assert "pmset displaysleepnow" in advice.message
        assert after_failure("out_of_memory", recipe()) is None
        assert after_failure(None, recipe()) is None

    def test_a_lost_rank(self) -> None:
        advice = after_failure("rank_lost", recipe(hosts="mac-a, mac-b"))
        assert advice is not None
        assert advice.change == ("hosts", 1)

    def test_a_step_that_was_not_finite(self) -> None:
        assert halved(after_failure("not_finite", recipe())) == ("learning_rate", 1e-4)

    @pytest.mark.parametrize(("rate", "then"), [(1e-4, 5e-5), (1.0, 1e-4)])
    def test_a_step_that_was_not_finite_at_a_manual_rate(self, rate: float, then: float) -> None:
        advice = after_failure("not_finite", recipe(), rate)
        assert halved(advice) == ("learning_rate", then)

    def test_a_step_that_was_not_finite_with_an_explicit_schedule(self) -> None:
        schedule = {"name": "cosine_decay", "arguments": [4e-4, 100]}
        advice = after_failure("not_finite", recipe(lr_schedule=schedule))
        assert halved(advice) == ("lr_schedule.arguments", (2e-4, 100))

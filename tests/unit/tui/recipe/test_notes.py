"""A run's duration on the Recipe screen."""

from __future__ import annotations

import time

import pytest

from mlxft.duration.expectation import Expectation
from mlxft.recipe import Recipe
from mlxft.text import figures
from mlxft_tui.recipe.notes import time_note

NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


def test_many_epochs_are_a_whole_number() -> None:
    note = time_note(Recipe(iters=1240), 1, None, NOON, 80).plain
    assert f"= {figures.count(1240)} epochs" in note


class TestEndTime:
    @pytest.mark.parametrize(
        ("hours", "shown"), [(2, "done at 14:00"), (40, "done at Fri 06 Mar 04:00")]
    )
    def test_it_has_a_day_unless_that_is_today(self, hours: int, shown: str) -> None:
        expected = Expectation(seconds=hours * 3600.0, tokens_per_second=100.0, source="from run-1")
        assert shown in time_note(Recipe(), None, expected, NOON, 80).plain

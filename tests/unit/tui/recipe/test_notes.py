"""What the recipe screen says of a run's time."""

from __future__ import annotations

import time

import pytest

from mlxft.duration.expectation import Expectation
from mlxft.recipe import Recipe
from mlxft_tui.recipe.notes import time_note

NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


class TestTheEnd:
    @pytest.mark.parametrize(
        ("hours", "told"), [(2, "done at 14:00"), (40, "done at Fri 06 Mar 04:00")]
    )
    def test_has_its_day_where_that_is_not_today(self, hours: int, told: str) -> None:
        expected = Expectation(hours * 3600.0, 100.0, "as run-1 went")
        assert told in time_note(Recipe(), None, expected, NOON, 80).plain

"""A run's duration on the Recipe screen."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mlxft.duration.expectation import Expectation
from mlxft.memory.calibrated import CalibratedEstimator
from mlxft.memory.calibration import Calibration
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.telemetry.limits import MachineLimits
from mlxft.text import figures
from mlxft_tui.recipe.costs import Costs
from mlxft_tui.recipe.memory_bar import memory_note
from mlxft_tui.recipe.notes import time_note
from support.records import SMOLLM2

SHAPES = ModelShapes.from_config(SMOLLM2)
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


class TestWhileRecordsAreMeasured:
    def test_the_time_is_pending(self) -> None:
        expected = Expectation(seconds=54_000.0, tokens_per_second=100.0, source="from run-1")
        note = time_note(Recipe(), None, expected, NOON, 80, is_measuring=True).plain
        assert note.endswith("time  measuring records…")

    def test_the_memory_is_a_limit_without_a_verdict(self) -> None:
        estimator = CalibratedEstimator(SHAPES, "cpu", 10**9, None, Calibration())
        costs = Costs(recipe=Recipe(), shapes=SHAPES)
        note = memory_note(
            estimator.estimate(Recipe(batch_size=64)),
            costs.assumptions(estimator),
            80,
            is_measuring=True,
        ).plain
        assert note.startswith("at most")
        assert "too much" not in note

    def test_it_is_pending_until_past_peaks_are_read(self) -> None:
        limits = MachineLimits(total=10**10, available=None, recommended=None, kind="cpu")
        known = Costs(recipe=Recipe(), shapes=SHAPES, limits=limits)
        assert known.estimate is not None
        assert replace(known, calibration=None).estimate is None

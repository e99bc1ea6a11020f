"""The steps of a run of any length in a bounded memory."""

from __future__ import annotations

import math
import random
from array import array
from itertools import pairwise

import pytest

from mlxft.runs.steps import EXACT, MOST_SETTLED, Steps

COUNT = 200_000
SPIKE, DIP = 54_321, 98_765


def rows(count: int) -> list[tuple[float, ...]]:
    """Steps with a noisy loss, one spike and one dip; a norm and a peak that are known late."""
    chance = random.Random(3)
    losses = [1.0 + chance.gauss(0, 0.1) for _ in range(count)]
    if count > DIP:
        losses[SPIKE - 1], losses[DIP - 1] = 9.0, -9.0
    return [
        (step, loss, loss, 500.0, 0.25, 1e-4, math.nan if step < 10 else 2.0, float(step))
        for step, loss in enumerate(losses, 1)
    ]


def added(steps: Steps, some: list[tuple[float, ...]]) -> Steps:
    return steps.added([array("d", column) for column in zip(*some, strict=True)])


@pytest.fixture(scope="module")
def long() -> Steps:
    return added(Steps(), rows(COUNT))


class TestLongRun:
    def test_points_are_bounded(self, long: Steps) -> None:
        assert len(long) <= MOST_SETTLED + 2 * EXACT + 2
        assert long.count == COUNT

    def test_spikes_are_kept(self, long: Steps) -> None:
        points = dict(zip(long.step, long.loss, strict=True))
        assert (points[SPIKE], points[DIP]) == (9.0, -9.0)

    def test_the_latest_steps_have_a_point_each(self, long: Steps) -> None:
        assert list(long.step[-EXACT:]) == list(range(COUNT - EXACT + 1, COUNT + 1))

    def test_tokens_and_seconds_are_conserved(self, long: Steps) -> None:
        assert sum(long.tokens) == pytest.approx(500 * COUNT)
        assert sum(long.seconds) == pytest.approx(0.25 * COUNT)

    def test_a_point_has_the_mean_loss_of_its_steps(self, long: Steps) -> None:
        losses = [row[1] for row in rows(COUNT)]
        for (start, end), mean in zip(pairwise([0, *long.step]), long.mean_loss, strict=True):
            part = losses[int(start) : int(end)]
            assert mean == pytest.approx(sum(part) / len(part))

    def test_order_and_values_are_unchanged(self, long: Steps) -> None:
        losses = [row[1] for row in rows(COUNT)]
        assert all(a < b for a, b in pairwise(long.step))
        assert all(losses[int(s) - 1] == loss for s, loss in zip(long.step, long.loss, strict=True))

    def test_unknown_values_stay_nan_and_maxima_are_kept(self, long: Steps) -> None:
        assert math.isnan(added(Steps(), rows(9)).gradient_norm[0])
        assert max(long.peak_memory) == COUNT

    def test_batches_do_not_change_the_points(self) -> None:
        all_rows = rows(20_000)
        parts = Steps()
        for start in range(0, len(all_rows), 777):
            parts = added(parts, all_rows[start : start + 777])
        assert parts == added(Steps(), all_rows)

    def test_a_nan_loss_counts_in_no_mean(self) -> None:
        broken = [
            (step, math.nan if step == 7 else 1.0, math.nan if step == 7 else 1.0, 1, 1, 1, 1, 1)
            for step in range(1, 3 * EXACT)
        ]
        assert all(mean == 1.0 for mean in added(Steps(), broken).mean_loss if mean == mean)


class TestResume:
    def test_points_after_the_resumed_step_are_dropped(self, long: Steps) -> None:
        cut = long.until(COUNT - 100)
        assert cut.step[-1] == COUNT - 100
        assert added(cut, [(COUNT - 99, 1, 1, 1, 1, 1, 1, 1)]).count == COUNT - 99

    def test_an_early_step(self, long: Steps) -> None:
        cut = long.until(1000)
        assert cut.step[-1] <= 1000
        assert cut.settled == len(cut)

    def test_the_last_step_changes_nothing(self, long: Steps) -> None:
        assert long.until(COUNT) is long

"""Advice that only a Mac needs."""

from __future__ import annotations

from typing import Literal

import pytest

from mlxft.advice.after_run import after_failure
from mlxft.advice.before_start import would_swap
from mlxft.recipe import Recipe


@pytest.mark.parametrize(
    ("now", "then"), [("normal", "short"), ("short", "relaxed"), ("relaxed", None)]
)
def test_each_failure_by_the_watchdog_offers_the_next_remedy(
    now: Literal["normal", "short", "relaxed"], then: str | None
) -> None:
    advice = after_failure("gpu_watchdog", Recipe(gpu_work=now))
    assert advice is not None
    assert advice.change == (then and ("gpu_work", then))


def test_a_run_that_fits_is_not_held_back() -> None:
    assert would_swap(5 * 10**9, 5 * 10**9, {"Browser": 10**10}) is None


def test_the_largest_programs_are_named_and_small_ones_are_not() -> None:
    programs = {"Notes": 10**8, "Browser": 3 * 10**9, "Music": 4 * 10**8}
    found = would_swap(9 * 10**9, -(10**9), programs) or ""
    assert "needs 9.00 GB and other programs leave 0.0 MB" in found
    assert "close Browser (3.00 GB), Music (0.40 GB), train" in found
    assert "close programs, train" in (would_swap(9, 8, {}) or "")

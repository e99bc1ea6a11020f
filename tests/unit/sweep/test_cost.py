"""What a sweep is expected to cost before it starts."""

from __future__ import annotations

from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.duration.expectation import Expectation
from mlxft.memory.estimator import MemoryEstimate
from mlxft.recipe import Recipe
from mlxft.sweep.cost import Cost, Sources, cost, described, halved_share, unfit_text
from mlxft.sweep.plan import Halving, Search, Span, Sweep
from support.journal import GB, RUN_RECIPE

BASE = recipes.apply_settings(RUN_RECIPE, ["iters=400", "save_every=100", "steps_per_eval=200"])


def memory(recipe: Recipe) -> MemoryEstimate:
    """A gigabyte for each rank, of eight; the adapter has a megabyte for each, Adam twice that."""
    rank = recipe.lora_parameters.rank
    parts = dict.fromkeys(("gradients", "activations", "loss", "cache", "base"), 0)
    return MemoryEstimate(
        weights=rank * GB,
        adapter=rank * 10**6,
        optimizer=2 * rank * 10**6,
        limit=9 * GB,
        known_family=True,
        **parts,
    )


def time(recipe: Recipe) -> Expectation:
    """A second for each step, and as much for each step and rank."""
    seconds = recipe.iters * recipe.lora_parameters.rank
    return Expectation(seconds=seconds, tokens_per_second=1, source="", spread=1.5)


def cost_of(sources: Sources | None = None, **sweep: Any) -> Cost:
    return cost(Sweep(name="s", **sweep), BASE, sources or Sources(memory=memory, time=time))


class TestCost:
    def test_of_a_grid_is_that_of_the_points_that_fit(self) -> None:
        found = cost_of(grid={"rank": [2, 4, 16], "seed": [1, 2]})
        assert (found.runs, found.seconds) == (4, 2 * 400 * (2 + 4))
        # Four saves, the best and the last adapter; three checkpoints and the best one.
        assert found.disk == 2 * (2 + 4) * 10**6 * (4 + 2 + 4 * 3)
        assert described(found) == (
            "4 runs, about 1:20:00 of training (53:20 to 2:00:00), up to 0.22 GB on disk"
        )
        assert unfit_text(found) == (
            "2 won't fit (needs 16.0 GB of memory, of 9.00 GB) and will be skipped: "
            "lora_parameters.rank 16, seed 1; lora_parameters.rank 16, seed 2."
        )

    def test_halving_trains_a_share_of_the_steps(self) -> None:
        # 8 points to step 100, 4 to step 200, 2 to step 400: 1600 of 3200 steps.
        assert halved_share(Halving(first=100), 8, 400) == pytest.approx(0.5)
        whole, halved = (
            cost_of(grid={"seed": list(range(8))}, halving=each)
            for each in (None, Halving(first=100))
        )
        assert whole.seconds is not None
        assert halved.seconds == pytest.approx(whole.seconds / 2)

    def test_of_a_search_is_that_of_its_budget(self) -> None:
        space = {"rank": Span(first=4, last=6)}
        found = cost_of(space=space, search=Search(method="tpe", runs=9))
        assert found.runs == 3  # There are no more points.
        assert found.seconds == pytest.approx(3 * 400 * 5, rel=0.1)
        assert cost_of(space=space, search=Search(method="tpe", runs=2)).runs == 2
        by_hours = cost_of(space=space, search=Search(method="tpe", hours=1))
        assert by_hours.runs == 2  # The last one passes the hour.
        assert by_hours.seconds == pytest.approx(2 * 400 * 5, rel=0.1)

    def test_what_is_unknown_is_said(self) -> None:
        nothing = Sources(memory=lambda recipe: None, time=lambda recipe: None)
        assert described(cost_of(nothing, grid={"seed": [1]})) == (
            "1 run, time unknown before the first run of this model here, disk space unknown"
        )

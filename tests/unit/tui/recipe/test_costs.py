"""What a recipe costs, from what is known about model, data and machine."""

from __future__ import annotations

import msgspec
import pytest

from mlxft import recipe as recipes
from mlxft.data.token_figures import TokenFigures
from mlxft.engine.protocol import MeasureTokens
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import PARAMETERS, Recipe
from mlxft.telemetry.limits import MachineLimits
from mlxft.telemetry.sample import Sample
from mlxft_tui.recipe.costs import Costs
from mlxft_tui.recipe.form import EPOCHS
from support.records import SMOLLM2, token_figures

RECIPE = Recipe(iters=150)
FIGURES: TokenFigures = token_figures(MeasureTokens("train.jsonl", RECIPE))
LIMITS = MachineLimits(total=10**10, available=None, recommended=None, kind="cpu")


class TestEpochs:
    def test_packed_rows_are_measured_in_tokens(self) -> None:
        packed = recipes.replace(RECIPE, "packing", True)
        assert Costs(recipe=packed).steps_per_epoch is None
        assert Costs(recipe=packed, tokens={"train": FIGURES}).steps_per_epoch == 75

    def test_a_packed_row_holds_both_answers_of_a_pair(self) -> None:
        packed = recipes.replace(recipes.replace(RECIPE, "packing", True), "loss", "dpo")
        rows = Costs(recipe=packed, tokens={"train": FIGURES}).row_summary
        assert rows.tokens == 2 * packed.max_seq_length

    def test_a_step_leads_to_the_next_whole_epoch(self) -> None:
        measured = msgspec.structs.replace(FIGURES, steps_per_epoch=60)
        packed = recipes.replace(RECIPE, "packing", True)
        costs = Costs(recipe=packed, tokens={"train": measured})
        stepped = [costs.stepped(EPOCHS, 1), costs.stepped(EPOCHS, -1)]
        assert [each.iters for each in stepped if each] == [180, 120]

    def test_without_data_they_are_unknown(self) -> None:
        costs = Costs(recipe=RECIPE)
        assert costs.stepped(EPOCHS, 1) is None
        assert costs.neighbours(EPOCHS) == []


class TestMemory:
    SHAPES = ModelShapes.from_config(SMOLLM2)

    def test_a_neighbour_adds_the_difference_of_the_estimates(self) -> None:
        costs = Costs(recipe=RECIPE, shapes=self.SHAPES, limits=LIMITS)
        less, more = costs.neighbours(PARAMETERS["batch_size"])
        assert (less.direction, less.value) == (-1, "3")
        assert (more.direction, more.value) == (1, "5")
        assert less.memory is not None
        assert more.memory is not None
        assert less.memory < 0 < more.memory

    def test_without_a_readable_config_nothing_is_estimated(self) -> None:
        costs = Costs(recipe=RECIPE, shapes="config.json: hidden_size is missing.", limits=LIMITS)
        assert costs.estimate is None
        assert costs.advice() == ()

    @pytest.mark.parametrize(("live", "used"), [(False, 7 * 10**9), (True, None)])
    def test_a_live_run_is_not_another_program(self, live: bool, used: int | None) -> None:
        machine = Sample(time=0.0, memory_used=7 * 10**9, memory_total=10**10)
        assert Costs(recipe=RECIPE, machine=machine, run_is_live=live).used_elsewhere == used

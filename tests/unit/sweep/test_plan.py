"""The points of a sweep, from its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.sweep.plan import Sweep, points, read_sweep


def sweep_of(tmp_path: Path, text: str) -> Sweep:
    (tmp_path / "rates.yaml").write_text(text)
    return read_sweep(tmp_path / "rates.yaml")


BASE = Recipe(model="demo", seed=7)


class TestPoints:
    def test_every_combination_is_one_with_the_common_seed(self, tmp_path: Path) -> None:
        sweep = sweep_of(
            tmp_path, "recipe: ../base.yaml\ngrid:\n  learning_rate: [1e-4, 2e-4]\n  rank: [4, 8]\n"
        )
        assert sweep.recipe == str(tmp_path / ".." / "base.yaml")
        found = points(sweep, BASE)
        assert [dict(each.values) for each in found] == [
            {"learning_rate": 1e-4, "lora_parameters.rank": 4},
            {"learning_rate": 1e-4, "lora_parameters.rank": 8},
            {"learning_rate": 2e-4, "lora_parameters.rank": 4},
            {"learning_rate": 2e-4, "lora_parameters.rank": 8},
        ]
        last = found[-1].recipe
        assert (last.learning_rate, last.lora_parameters.rank, last.seed) == (2e-4, 8, 7)
        assert [each.recipe.run_name for each in found] == [f"rates-{n}" for n in (1, 2, 3, 4)]

    def test_a_span_has_equal_steps_or_equal_factors(self, tmp_path: Path) -> None:
        sweep = sweep_of(
            tmp_path,
            "grid:\n"
            "  learning_rate: {from: 1e-5, to: 1e-3, count: 3, scale: log}\n"
            "  num_layers: {from: 1, to: 4, count: 9}\n",
        )
        found = points(sweep, BASE)
        assert sorted({each.recipe.learning_rate for each in found}) == [1e-5, 1e-4, 1e-3]
        assert sorted({each.recipe.num_layers for each in found}) == [1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("grid: {}", "grid is empty"),
            ("grid: {learning_rat: [1]}", "did you mean learning_rate"),
            ("grid: {batch_size: [0]}", "batch_size"),
            ("grid: {batch_size: []}", "batch_size has no values"),
            ("grid: {batch_size: 4}", "a list or a range of values for each parameter"),
            ("grid: {optimizer: {from: 1, to: 2, count: 2}}", "isn't a number"),
            ("grid: {batch_size: {from: 0, to: 2, count: 2, scale: log}}", "values above 0"),
            ("grid: {seed: {from: 1, to: 9999, count: 9999}}", "more than 1000 points"),
            ("grid: {learning_rate: {from: 0, to: 1, count: 1000000000}}", "more than 1000 points"),
            ("grid: {learning_rate: {from: 0, to: .inf, count: 2}}", "can't have an end of inf"),
            ("grid: {seed: {from: 1, to: 1e300, count: 3}}", r"can't have an end of 1e\+300"),
            ("grid: {seed: {from: 1, to: .nan, count: 3}}", "can't have an end of nan"),
            ("name: a/b\ngrid: {seed: [1]}", "must consist of at most 80 letters"),
            ("grids: {seed: [1]}", "a sweep has recipe, name and grid"),
        ],
    )
    def test_a_mistake_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            points(sweep_of(tmp_path, text), BASE)

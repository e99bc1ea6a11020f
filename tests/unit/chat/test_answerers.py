"""Who can answer, and where their adapters are."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.chat.answerers import (
    ADAPTER,
    BASE,
    Comparison,
    adapter_path,
    named_from,
    named_in_full,
    other_sides,
    run_of,
    saved,
    step_of,
    titled,
)
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory


class TestNames:
    @pytest.mark.parametrize(
        ("side", "run", "step", "words"),
        [
            (BASE, "", None, "base"),
            (ADAPTER, "", None, "adapter · step 9"),
            (saved(100), "", 100, "checkpoint · step 100"),
            (saved(None, "lamp@home-1"), "lamp@home-1", None, "lamp@home-1"),
            (saved(50, "lamp-1"), "lamp-1", 50, "lamp-1 · step 50"),
        ],
    )
    def test_a_side_tells_its_run_and_step(
        self, side: str, run: str, step: int | None, words: str
    ) -> None:
        assert (run_of(side), step_of(side), titled(side, 9)) == (run, step, words)

    @pytest.mark.parametrize("side", [BASE, ADAPTER, saved(100), saved(5, "other-1")])
    def test_a_name_in_full_is_the_same_side_while_its_run_is_followed(self, side: str) -> None:
        assert named_from(named_in_full(side, "lamp-1"), "lamp-1") == side


class TestComparison:
    def test_asks_the_adapter_unless_there_is_none(self) -> None:
        assert Comparison().asked([BASE, ADAPTER]) == (ADAPTER,)
        assert Comparison().asked([BASE]) == (BASE,)
        assert Comparison(asks="both").asked([BASE]) == (BASE,)

    def test_two_that_are_chosen_are_asked_side_by_side(self) -> None:
        chosen = Comparison().choosing(saved(5), saved(None, "other-1"))
        assert chosen.asked([BASE, ADAPTER, saved(5)]) == (saved(5), saved(None, "other-1"))

    def test_a_checkpoint_that_the_run_has_not_got_is_not_asked(self) -> None:
        chosen = Comparison().choosing(saved(5), ADAPTER)
        assert chosen.asked([BASE, ADAPTER]) == (ADAPTER,)

    def test_one_of_the_two_is_asked_and_the_other_stays(self) -> None:
        assert Comparison().choosing(BASE) == Comparison(BASE, ADAPTER, "left")

    def test_the_base_takes_the_left_column(self) -> None:
        chosen = Comparison(saved(5), saved(9), "both").choosing(BASE)
        assert chosen == Comparison(BASE, saved(9), "left")

    def test_another_one_is_compared_with_the_base(self) -> None:
        assert Comparison().choosing(saved(5)) == Comparison(BASE, saved(5), "right")


class TestOtherSides:
    def make(self, folder: Path, name: str, model: str, *files: str) -> RunDirectory:
        path = folder / name
        path.mkdir()
        recipes.save(Recipe(model=model), path / "recipe.yaml")
        for file in files:
            (path / file).touch()
        return RunDirectory(path)

    def test_are_the_adapters_of_other_runs_that_fit(self, tmp_path: Path) -> None:
        files = (
            "adapters.safetensors",
            "0000050_adapters.safetensors",
            "best_adapters.safetensors",
        )
        runs = [
            self.make(tmp_path, "lamp-1", "demo", *files),
            self.make(tmp_path, "lamp-2", "demo", *files),
            self.make(tmp_path, "young", "demo"),
            self.make(tmp_path, "else", "other", *files),
            RunDirectory(tmp_path / "gone"),
        ]
        found = list(other_sides(runs, "lamp-1", lambda model: model == "demo"))
        assert found == [saved(None, "lamp-2"), saved(50, "lamp-2")]

    def test_are_found_in_their_folders(self, tmp_path: Path) -> None:
        assert adapter_path(BASE, None, tmp_path) is None
        assert adapter_path(saved(None, "a"), None, tmp_path) == tmp_path / "a"
        file = tmp_path / "a" / "0000005_adapters.safetensors"
        assert adapter_path(saved(5, "a"), None, tmp_path) == file

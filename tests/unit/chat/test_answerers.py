"""Answerers: names, titles, comparisons and adapter paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.chat.answerers import (
    ADAPTER,
    BASE,
    Answerer,
    Comparison,
    adapter_path,
    other_answerers,
    renamed,
)
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory

CHECKPOINT = Answerer("", 5)
OTHER_RUN = Answerer("other-1")


class TestNames:
    @pytest.mark.parametrize(
        ("answerer", "text", "title"),
        [
            (BASE, "base", "base"),
            (ADAPTER, "adapter", "adapter · step 9"),
            (Answerer("", 100), "@100", "checkpoint · step 100"),
            (Answerer("lamp@home-1"), "lamp@home-1@", "lamp@home-1"),
            (Answerer("lamp-1", 50), "lamp-1@50", "lamp-1 · step 50"),
        ],
    )
    def test_have_a_form_in_files_and_a_title(
        self, answerer: Answerer, text: str, title: str
    ) -> None:
        assert (str(answerer), answerer.title(9)) == (text, title)
        assert Answerer.parse(text) == answerer

    @pytest.mark.parametrize("answerer", [BASE, ADAPTER, CHECKPOINT, Answerer("other-1", 5)])
    def test_naming_the_followed_run_is_reversible(self, answerer: Answerer) -> None:
        assert answerer.named("lamp-1").seen_from("lamp-1") == answerer

    def test_after_another_run_is_followed_titles_name_the_former_one(self) -> None:
        new = renamed(CHECKPOINT, "checkpoint · step 5", before="lamp-1", followed="lamp-2")
        assert new == (Answerer("lamp-1", 5), "lamp-1 · step 5")


class TestComparison:
    def test_the_adapter_answers_if_there_is_one(self) -> None:
        assert Comparison().asked([BASE, ADAPTER]) == (ADAPTER,)
        assert Comparison().asked([BASE]) == (BASE,)
        assert Comparison(asks="both").asked([BASE]) == (BASE,)

    def test_two_chosen_answer_side_by_side(self) -> None:
        chosen = Comparison().choosing(CHECKPOINT, OTHER_RUN)
        assert chosen.asked([BASE, ADAPTER, CHECKPOINT]) == (CHECKPOINT, OTHER_RUN)

    def test_a_missing_checkpoint_does_not_answer(self) -> None:
        chosen = Comparison().choosing(CHECKPOINT, ADAPTER)
        assert chosen.asked([BASE, ADAPTER]) == (ADAPTER,)

    def test_choosing_one_of_the_two_keeps_the_other(self) -> None:
        assert Comparison().choosing(BASE) == Comparison(BASE, ADAPTER, "left")

    def test_the_base_takes_the_left_column(self) -> None:
        chosen = Comparison(CHECKPOINT, Answerer("", 9), "both").choosing(BASE)
        assert chosen == Comparison(BASE, Answerer("", 9), "left")

    def test_another_one_is_compared_with_the_base(self) -> None:
        assert Comparison().choosing(CHECKPOINT) == Comparison(BASE, CHECKPOINT, "right")


class TestOtherAnswerers:
    def make(self, folder: Path, name: str, model: str, *files: str) -> RunDirectory:
        path = folder / name
        path.mkdir()
        recipes.save(Recipe(model=model), path / "recipe.yaml")
        for file in files:
            (path / file).touch()
        return RunDirectory(path)

    def test_are_the_adapters_of_runs_of_the_same_model(self, tmp_path: Path) -> None:
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
        found = list(other_answerers(runs, "lamp-1", lambda model: model == "demo"))
        assert found == [Answerer("lamp-2"), Answerer("lamp-2", 50)]

    def test_have_their_adapters_in_the_runs_folders(self, tmp_path: Path) -> None:
        assert adapter_path(BASE, None, tmp_path) is None
        assert adapter_path(Answerer("a"), None, tmp_path) == tmp_path / "a"
        file = tmp_path / "a" / "0000005_adapters.safetensors"
        assert adapter_path(Answerer("a", 5), None, tmp_path) == file

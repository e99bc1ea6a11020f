"""The run directory."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.errors import RecipeError, RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs import directory as directories
from mlxft.runs.new_run import new_run


def unwritable(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class TestDirectory:
    def test_a_new_run_is_private_and_holds_its_recipe(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path / "adapters", Recipe(model="m"), "smol/lm lora")
        assert run.name == "smol-lm-lora-1"
        assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
        assert run.recipe().model == "m"

    def test_a_new_recipe_keeps_the_adapter_path(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path, Recipe(model="m"), "run")
        run.write_recipe(Recipe(model="other"))
        assert run.recipe().model == "other"
        assert f"adapter_path: {run.path}" in run.recipe_file.read_text()

    def test_a_run_older_than_a_parameter_keeps_training_as_it_did(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path, Recipe(model="m", grad_accumulation_steps=4), "run")
        assert run.recipe().grad_accumulation_by == "tokens"
        text = run.recipe_file.read_text().replace("grad_accumulation_by: tokens\n", "")
        run.recipe_file.write_text(text)
        assert run.recipe().grad_accumulation_by == "steps"

    def test_a_failed_write_keeps_the_old_recipe(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = directories.create(tmp_path, Recipe(model="m"), "run")
        monkeypatch.setattr(os, "fsync", unwritable)
        with pytest.raises(StorageError, match="recipe can't be written"):
            run.write_recipe(Recipe(model="other"))
        assert run.recipe().model == "m"

    def test_a_taken_name_gets_the_next_number(self, tmp_path: Path) -> None:
        names = [directories.create(tmp_path, Recipe(), "run").name for _ in range(3)]
        assert names == ["run-1", "run-2", "run-3"]

    def test_a_name_of_its_own_gets_a_number_only_if_taken(self, tmp_path: Path) -> None:
        recipe = recipes.replace(Recipe(), "run_name", "début")
        names = [directories.create(tmp_path, recipe, "run").name for _ in range(3)]
        assert names == ["début", "début-2", "début-3"]

    @pytest.mark.parametrize("name", ["a/b", "..", ".a", "-a", "a b", "base", "a\nb"])
    def test_a_name_that_would_be_misread_is_refused(self, name: str) -> None:
        with pytest.raises(RecipeError, match="run_name is"):
            recipes.replace(Recipe(), "run_name", name)

    def test_an_unwritable_folder_is_reported_in_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="choose a folder you can write"):
            directories.create(tmp_path / "file", Recipe(), "run")

    def test_a_run_is_live_while_an_engine_holds_its_lock(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path, Recipe(), "run")
        assert not run.is_live()
        with run.locked():
            assert run.is_live()
            with pytest.raises(RunError, match="attach to it"), run.locked():
                pass
        assert not run.is_live()

    def test_the_socket_path_is_short_enough_for_macos(self, tmp_path: Path) -> None:
        run = directories.create(tmp_path, Recipe(), "a" * 100)
        assert len(os.fsencode(run.socket_file)) < 104


def test_a_hostfile_beside_the_recipe_is_found_from_anywhere(tmp_path: Path) -> None:
    recipe = recipes.apply_settings(Recipe(model="demo"), ["hosts=pair.json"])
    with pytest.raises(RecipeError, match=r"pair\.json can't be read"):
        new_run(tmp_path, recipe)
    assert not (tmp_path / "adapters").exists()
    (tmp_path / "pair.json").write_text('[{"ssh": "localhost"}, {"ssh": "mac-b"}]')
    assert new_run(tmp_path, recipe).recipe().hosts == str((tmp_path / "pair.json").resolve())

"""Each edit of a project's recipe is in its file at once, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.recipe.edits import KEPT_STEPS, RecipeEdits

FIRST = Recipe(model="m", iters=100)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def opened(file: Path) -> RecipeEdits:
    edits = RecipeEdits(file)
    edits.open(FIRST)
    return edits


def edit(edits: RecipeEdits, key: str, value: object) -> None:
    edits.change(recipes.replace(edits.recipe, key, value))


class TestEdits:
    def test_looking_writes_nothing_and_an_edit_is_in_the_file_at_once(self, file: Path) -> None:
        edits = opened(file)
        assert not file.exists()
        edit(edits, "iters", 7)
        assert recipes.load(file) == edits.recipe == recipes.replace(FIRST, "iters", 7)

    def test_several_edits_are_undone_and_made_again_in_the_file_too(self, file: Path) -> None:
        edits = opened(file)
        for iters in (1, 2, 3):
            edit(edits, "iters", iters)
        for wanted in (2, 1):
            edits.undo()
            assert recipes.load(file).iters == wanted
        edits.redo()
        assert recipes.load(file).iters == 2
        edit(edits, "batch_size", 1)
        assert not edits.can_redo
        for _ in range(5):
            edits.undo()
        assert recipes.load(file) == FIRST

    def test_they_can_be_undone_after_the_next_start(self, file: Path, tmp_path: Path) -> None:
        edits, store = opened(file), tmp_path / "undo.json"
        for iters in range(2, KEPT_STEPS + 10):
            edit(edits, "iters", iters)
        edits.keep_undo(store)
        again = opened(file)
        again.restore_undo(store)
        again.undo()
        assert recipes.load(file).iters == KEPT_STEPS + 8
        again.redo()
        assert recipes.load(file) == edits.recipe
        again.keep_undo(store)
        third = opened(file)
        third.restore_undo(store)
        for _ in range(2 * KEPT_STEPS):
            third.undo()
        assert third.recipe.iters == 9

    def test_those_of_another_recipe_are_not_undone(self, file: Path, tmp_path: Path) -> None:
        edits, store = opened(file), tmp_path / "undo.json"
        edit(edits, "iters", 7)
        edits.keep_undo(store)
        recipes.save(Recipe(model="another"), file)
        again = opened(file)
        again.restore_undo(store)
        assert not again.can_undo

    @pytest.mark.parametrize("text", [b"", b"[]", b'{"recipe": 1}'])
    def test_a_damaged_store_is_ignored(self, file: Path, tmp_path: Path, text: bytes) -> None:
        (tmp_path / "undo.json").write_bytes(text)
        edits = opened(file)
        edits.restore_undo(tmp_path / "undo.json")
        assert not edits.can_undo

    def test_an_edit_of_the_same_value_is_no_edit(self, file: Path) -> None:
        edits = opened(file)
        edits.change(FIRST)
        assert not edits.can_undo
        assert not file.exists()


class TestTwoApplications:
    def test_edits_of_both_are_kept_and_shown(self, file: Path) -> None:
        recipes.save(FIRST, file)
        one, other = opened(file), opened(file)
        edit(one, "iters", 7)
        edit(other, "batch_size", 2)
        assert other.recipe == recipes.load(file)
        assert (other.recipe.iters, other.recipe.batch_size) == (7, 2)
        assert one.follow_file()
        assert one.recipe == other.recipe
        assert not one.follow_file()

    def test_what_another_has_changed_can_be_undone(self, file: Path) -> None:
        recipes.save(FIRST, file)
        one, other = opened(file), opened(file)
        edit(other, "iters", 7)
        one.follow_file()
        one.undo()
        assert recipes.load(file) == FIRST

    def test_a_half_written_file_is_not_followed(self, file: Path) -> None:
        recipes.save(FIRST, file)
        edits = opened(file)
        file.write_text("iters: [")
        assert not edits.follow_file()
        assert edits.recipe == FIRST


class TestTextsThatWereThere:
    def test_comments_are_kept_in_a_copy(self, file: Path, tmp_path: Path) -> None:
        written = "# my notes\nmodel: m\niters: 50\nadapter_path: out\n"
        file.write_text(written)
        edits = opened(file)
        edit(edits, "iters", 7)
        edit(edits, "iters", 8)
        copy = tmp_path / "recipe.yaml.orig"
        assert edits.kept_copy == copy
        assert copy.read_text() == written
        assert len(list(tmp_path.iterdir())) == 2

    def test_another_copy_is_not_replaced(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml.orig").write_text("# earlier\n")
        file.write_text("# later\nmodel: m\n")
        edit(opened(file), "iters", 7)
        assert (tmp_path / "recipe.yaml.orig").read_text() == "# earlier\n"
        assert (tmp_path / "recipe.yaml.orig-2").read_text() == "# later\nmodel: m\n"

    def test_a_file_that_cannot_be_read_is_kept(self, file: Path, tmp_path: Path) -> None:
        file.write_bytes(b"iters: many \xff\n")
        edits = RecipeEdits(file)
        with pytest.raises(RecipeError, match="not UTF-8"):
            edits.open(FIRST)
        edit(edits, "iters", 7)
        assert recipes.load(file) == edits.recipe
        assert (tmp_path / "recipe.yaml.orig").read_bytes() == b"iters: many \xff\n"

    def test_a_recipe_from_elsewhere_keeps_the_one_that_is_there(
        self, file: Path, tmp_path: Path
    ) -> None:
        recipes.save(FIRST, file)
        edits = RecipeEdits(file)
        edits.start(Recipe(model="demo"))
        edit(edits, "iters", 7)
        assert recipes.load(file) == Recipe(model="demo", iters=7)
        assert recipes.load(tmp_path / "recipe.yaml.orig") == FIRST


class TestFolderThatCannotBeWritten:
    def test_the_edit_stays_on_screen_and_the_problem_is_known(self, tmp_path: Path) -> None:
        edits = opened(tmp_path / "gone" / "recipe.yaml")
        edit(edits, "iters", 7)
        assert edits.recipe.iters == 7
        assert "can't be written" in edits.problem
        (tmp_path / "gone").mkdir()
        edits.write()
        assert edits.problem == ""
        assert recipes.load(edits.file).iters == 7

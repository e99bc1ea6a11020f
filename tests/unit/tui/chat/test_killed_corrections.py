"""Corrections killed before every single write, and made again."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from mlxft.conversation.messages import Message
from mlxft.recipe import Recipe, load, replace
from mlxft.storage.paths import sample_data
from mlxft_tui.chat.export import save_correction
from mlxft_tui.session import Session
from support.killing import KilledError, killed_at

PROMPT = "Feed the axolotl"
CONVERSATION = (Message("user", PROMPT), Message("assistant", '{"fed": true}'))


def correct(project: Path) -> None:
    """Save a correction as the Chat screen does, in the project as it is."""
    session = Session(project)
    recipe = replace(Recipe(model="demo"), "data", str(sample_data()))
    recipe = session.saved_recipe() if session.recipe_file.exists() else recipe
    save_correction(session, recipe, CONVERSATION, answer="1", is_test_prompt=False)


def files(project: Path) -> dict[str, bytes]:
    """A project's files, without temporary ones, which the next write replaces."""
    return {
        str(path.relative_to(project)): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and not path.name.startswith(".recipe")
    }


def added(project: Path) -> int:
    """How often the training set of the project's recipe has the correction."""
    recipe = project / "recipe.yaml"
    data = project / load(recipe).data if recipe.exists() else sample_data()
    return (data / "train.jsonl").read_text().count(PROMPT)


class TestKilled:
    def test_before_any_write_it_can_be_made_again_and_is_one_record(self, tmp_path: Path) -> None:
        project = tmp_path / "project"
        project.mkdir()
        with killed_at(project, None) as undisturbed:
            correct(project)
        expected = files(project)
        assert added(project) == 1
        for number in range(len(undisturbed.done)):
            shutil.rmtree(project)
            project.mkdir()
            with killed_at(project, number), suppress(KilledError):
                correct(project)
            correct(project)
            assert files(project).keys() == expected.keys(), undisturbed.done[number]
            assert added(project) == 1

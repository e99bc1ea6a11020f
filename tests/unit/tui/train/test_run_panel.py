"""What decides a run, in a line each."""

from __future__ import annotations

from pathlib import Path

from mlxft.recipe import Recipe
from mlxft.runs.view import RunView
from mlxft_tui.train.run_panel import recipe_rows


def test_paths_are_shown_from_the_home_folder_and_ids_as_they_are() -> None:
    recipe = Recipe(model="org/model", data=str(Path.home() / "lamps" / "data"))
    lines = ["".join(text for text, _ in row) for row in recipe_rows(recipe, RunView())]
    assert lines[0].endswith("org/model")
    assert lines[1].endswith(" ~/lamps/data")

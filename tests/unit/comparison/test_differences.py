"""What runs trained with, beside each other and beside what is there now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from mlxft import recipe as recipes
from mlxft.comparison.differences import (
    circumstances,
    circumstances_now,
    differences,
    recipe_differences,
    versions_now,
)
from mlxft.comparison.table import RunRow, row_of
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.new_run import absolute
from support.journal import RUN_RECIPE, data_prepared, ended, training, write_run


def trained(root: Path, recipe: Recipe, **prints: str) -> RunDirectory:
    """A finished run on data with these fingerprints."""
    started = ev.RunStarted(
        run="run",
        pid=1,
        host="mac",
        recipe=recipes.to_mapping(recipe),
        iters=recipe.iters,
        versions=versions_now(),
    )
    data = msgspec.structs.replace(data_prepared(90), fingerprints=prints)  # type: ignore[type-var]
    return write_run(root, recipe, [started, data, *training(30, recipe), ended(30)])


def named(rows: list[RunRow]) -> dict[str, tuple[str, ...]]:
    return {each.name: each.texts for each in differences([circumstances(row) for row in rows])}


def test_runs_differ_in_recipe_and_data(tmp_path: Path) -> None:
    other = recipes.replace(recipes.replace(RUN_RECIPE, "learning_rate", 1e-5), "run_name", "b")
    rows = [
        row_of(trained(tmp_path, RUN_RECIPE, train="aa", valid="bb")),
        row_of(trained(tmp_path, other, train="cc", valid="bb")),
        row_of(trained(tmp_path, other)),
    ]
    assert named(rows) == {"learning_rate": ("2e-4", "1e-5", "1e-5"), "train": ("aa", "cc", "—")}
    assert [each.name for each in recipe_differences(rows)] == ["learning_rate"]
    assert named(rows[1:]) == {}


def test_what_changed_since_a_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "valid"):
        (data / f"{name}.jsonl").write_text('{"text": "a"}\n')
    relative = recipes.replace(RUN_RECIPE, "data", "data")
    now = circumstances_now(relative, tmp_path)
    row = row_of(trained(tmp_path / "adapters", absolute(tmp_path, relative), **now.fingerprints))
    then = replace(circumstances(row), host=now.host)
    assert differences([then, now]) == ()
    (data / "train.jsonl").write_text('{"text": "b"}\n')
    changed = circumstances_now(recipes.replace(relative, "seed", 9), tmp_path)
    older = replace(then, versions={**then.versions, "mlx": "0.1"})
    found = [(each.kind, each.name) for each in differences([older, changed])]
    assert found == [("recipe", "seed"), ("data", "train"), ("version", "mlx")]

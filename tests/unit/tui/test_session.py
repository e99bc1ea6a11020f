"""What the viewer does to a project's runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.recipe import Recipe
from mlxft_tui.session import Session


def test_a_changed_run_keeps_its_adapter_path(tmp_path: Path) -> None:
    session = Session(tmp_path)
    run = session.new_run(Recipe(model="demo", learning_rate=4e-4))
    session.change(run, {"learning_rate": 2e-4})
    assert run.recipe().learning_rate == 2e-4
    assert f"adapter_path: {run.path}" in run.recipe_file.read_text()


def test_a_relative_folder_is_absolute_for_its_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = Session(Path("mine"))
    assert session.folder == tmp_path / "mine"
    assert session.data(Recipe(data="data")) == tmp_path / "mine" / "data"

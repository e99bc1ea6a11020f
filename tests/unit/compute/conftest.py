"""A tiny model, its data and a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.recipe import Recipe, apply_settings
from mlxft.runs.directory import create
from support.models import make_tiny_data, make_tiny_model
from support.training import MakeRun, Run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def recipe(tiny_model: Path, tiny_data: Path) -> Recipe:
    """Six steps of two records in two of three layers, without validation."""
    settings = (
        "iters=6",
        "batch_size=2",
        "num_layers=2",
        "learning_rate=1e-3",
        "steps_per_report=2",
        "steps_per_eval=100",
        "save_every=100",
        "val_batches=0",
        "val_at_start=false",
    )
    return apply_settings(Recipe(model=str(tiny_model), data=str(tiny_data)), settings)


@pytest.fixture
def make_run(tmp_path: Path, recipe: Recipe) -> MakeRun:
    """Makes a run with changes to the recipe."""

    def make(*settings: str) -> Run:
        changed = apply_settings(recipe, settings)
        return Run(create(tmp_path / "runs", changed, "run"), changed)

    return make

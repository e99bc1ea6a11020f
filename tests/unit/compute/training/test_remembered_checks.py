"""What the check of a model found is kept for the next run that depends on the same."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlxft import recipe as recipes
from mlxft.compute.training import preparation
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.preparation import prepare
from mlxft.compute.training.remembered_checks import remember, remembered
from mlxft.compute.training.start_checks import Verified, verified
from mlxft.recipe import Recipe


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were checked."""
    made: list[str] = []

    def counted(model: Any, name: str, **options: Any) -> Any:
        made.append(name)
        return verified(model, name, **options)

    monkeypatch.setattr(preparation, "verified", counted)
    return made


def prepared(recipe: Recipe) -> None:
    day, folder = datetime(2026, 1, 1, tzinfo=UTC), Path(recipe.model)
    prepare(recipe, None, lambda _: None, lambda: True, day, folder)


def test_what_was_found_is_kept_whole() -> None:
    found = Verified(
        loss=Loss(chunked=False, with_cache=True, trains_head=True),
        grad_checkpoint=True,
        warnings=("one", "two"),
    )
    remember("a", found)
    remember("b", replace(found, grad_checkpoint=False))
    assert (remembered("a"), remembered("c")) == (found, None)


@pytest.mark.parametrize("change", ["num_layers=1", "dropout=0.1", "grad_checkpoint=true"])
def test_another_recipe_is_checked(recipe: Recipe, checks: list[str], change: str) -> None:
    prepared(recipe)
    prepared(recipes.apply_settings(recipe, ["learning_rate=1e-4", "iters=9"]))
    assert len(checks) == 1
    prepared(recipes.apply_settings(recipe, [change]))
    assert len(checks) == 2


def test_a_changed_model_is_checked(recipe: Recipe, checks: list[str], tmp_path: Path) -> None:
    model = shutil.copytree(recipe.model, tmp_path / "model")
    mine = recipes.replace(recipe, "model", str(model))
    prepared(mine)
    weights = next(model.glob("*.safetensors"))
    os.utime(weights, ns=(0, 1))
    prepared(mine)
    assert len(checks) == 2

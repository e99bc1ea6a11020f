"""An adapter is found by a run's name or by any path to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxft.adapters.found import find_adapter
from mlxft.errors import RunError
from mlxft.recipe import Recipe
from mlxft.runs.directory import create


@pytest.fixture
def project(tmp_path: Path) -> Path:
    run = create(tmp_path / "project" / "adapters", Recipe(model="m", iters=7), "own")
    for name in ("adapters", "0000005_adapters"):
        (run.path / f"{name}.safetensors").touch()
    run.adapter_config_file.write_text('{"model": "m"}')
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("own-1", "own-1"),
        ("adapters/own-1", "own-1"),
        ("{project}/adapters/own-1", "own-1"),
        ("own-1/0000005_adapters.safetensors", "own-1/0000005_adapters.safetensors"),
    ],
)
def test_a_run(project: Path, named: str, found: str) -> None:
    adapter = find_adapter(project / "adapters", named.format(project=project))
    assert (adapter.name, adapter.recipe.iters, adapter.is_run) == (found, 7, True)
    assert adapter.path == project / "adapters" / found


@pytest.mark.parametrize("named", ["elsewhere", "./elsewhere", "{project}/elsewhere", "../cwd"])
def test_an_adapter_that_mlx_lm_made(
    project: Path, tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same folder from the project's, from the current one, and by its full path."""
    monkeypatch.chdir(project)
    for folder in (project / "elsewhere", tmp_path / "cwd"):
        folder.mkdir()
        (folder / "adapters.safetensors").touch()
        config = {"model": "base", "mask_prompt": True, "data": "gone"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    adapter = find_adapter(project / "adapters", named.format(project=project))
    assert (adapter.recipe.model, adapter.recipe.train_on, adapter.is_run) == (
        "base",
        "last_answer",
        False,
    )


def test_an_adapter_of_peft_names_its_model(project: Path) -> None:
    folder = project / "peft"
    folder.mkdir()
    (folder / "adapter_model.safetensors").touch()
    config = {"peft_type": "LORA", "base_model_name_or_path": "owner/base", "r": 8}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert find_adapter(project / "adapters", "peft").recipe.model == "owner/base"


def test_nothing_there_is_said(project: Path) -> None:
    with pytest.raises(RunError, match=r"neither a run in .* nor the folder of an adapter"):
        find_adapter(project / "adapters", "own-2")

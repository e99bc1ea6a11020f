"""An engine that can't be started is one sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlxft.engine.launch import launch_training
from mlxft.engine.machine import only_training, refuse_if_training
from mlxft.errors import EngineError, RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory, create


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create(tmp_path, Recipe(model="m"), "run")


def interpreter(path: Path, script: str) -> str:
    """A program that stands in for Python."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


class TestLaunch:
    def test_an_engine_that_dies_silently_names_the_log(
        self, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dying = interpreter(tmp_path / "python", "echo Segmentation fault >&2; exit 139")
        monkeypatch.setattr(sys, "executable", dying)
        with pytest.raises(EngineError, match=r"failed to start; .*engine\.log says why"):
            launch_training(run)
        assert run.log_file.read_text() == "Segmentation fault\n"

    def test_a_missing_interpreter_is_a_sentence(
        self, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
        with pytest.raises(EngineError, match="can't be started"):
            launch_training(run)

    def test_a_log_that_cannot_be_written_is_a_sentence(self, run: RunDirectory) -> None:
        run.log_file.mkdir()
        with pytest.raises(StorageError, match="log can't be written"):
            launch_training(run)


class TestOneRunPerMachine:
    def test_a_second_run_is_refused_with_the_name_of_the_first(
        self, run: RunDirectory, tmp_path: Path
    ) -> None:
        refuse_if_training(tmp_path)
        with only_training(run):
            with pytest.raises(
                RunError, match=rf"{run.path} is training .* \(process {os.getpid()}\)"
            ):
                refuse_if_training(tmp_path)
            other = create(tmp_path, Recipe(model="m"), "other")
            with pytest.raises(RunError, match=str(run.path)), only_training(other):
                pass
        refuse_if_training(tmp_path)

"""Engines take seconds to start: a module's tests share folders, and may share an engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxft.runs.directory import RunDirectory
from support.project import Project, make_project


@pytest.fixture(scope="module", autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The module's own cache, runtime and log folders."""
    runtime = Path(tempfile.mkdtemp(prefix="mlxft-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MLXFT_RUNTIME", str(runtime))
        patch.setenv("MLXFT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.setenv("MLXFT_CONFIG", str(tmp_path_factory.mktemp("config")))
        patch.setenv("MLXFT_LOGS", str(tmp_path_factory.mktemp("logs")))
        patch.setenv("MLXFT_PEAKS", str(tmp_path_factory.mktemp("peaks") / "peaks.jsonl"))
        yield
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(scope="module")
def project(private_folders: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that leaves no engine behind."""
    project = make_project(tmp_path_factory.mktemp("project") / "p")
    yield project
    project.end_engines()


@pytest.fixture(scope="module")
def endless(project: Project) -> RunDirectory:
    """A run that trains until the end of the module."""
    return project.start("val_batches=2", "steps_per_eval=1000000")

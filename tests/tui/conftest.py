"""The application on a small project, without the processes it would start."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.telemetry.sample import Sample
from mlxft.telemetry.sampler import Sampler
from mlxft_tui.app import MlxftApp
from mlxft_tui.data import token_lengths
from mlxft_tui.runs.screen import RunsScreen
from support.idle import waits_for_messages as waits_for_messages
from support.journal import RUN_START
from support.records import records, write_records
from support.session import RECIPE, Opened, QuietSession


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the home folder, so that no path of this machine is on a screen."""
    monkeypatch.setenv("HOME", str(tmp_path))
    project = tmp_path / "lamps"
    write_records(project / "data" / "train.jsonl", records(300))
    write_records(project / "data" / "valid.jsonl", records(40, first=300))
    return project


@pytest.fixture(autouse=True)
def a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands a minute after the runs, and the machine is always the same."""
    monkeypatch.setattr(token_lengths, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(RunsScreen, "clock", staticmethod(lambda: RUN_START + 3600))
    sample = Sample(time=RUN_START, cpu_share=0.12, memory_used=9 * 10**9, memory_total=18 * 10**9)
    monkeypatch.setattr(Sampler, "sample", lambda _: sample)


@pytest.fixture
def opened(folder: Path) -> Opened:
    """Makes the application on the project."""

    def make(recipe: Recipe | None = RECIPE, follow: RunDirectory | None = None) -> MlxftApp:
        return MlxftApp(folder, recipe, follow, QuietSession(folder))

    return make

"""The application on a small project, without the processes it would start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxft.memory.estimator import MemoryEstimate
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.telemetry.sample import Sample
from mlxft.telemetry.sampler import Sampler
from mlxft_tui.app import MlxftApp
from mlxft_tui.data import token_lengths
from mlxft_tui.recipe.screen import RecipeScreen
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


@pytest.fixture
def fixed_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The end of a run is shown in local time, which is made the same everywhere."""
    monkeypatch.setattr(RecipeScreen, "clock", staticmethod(lambda: RUN_START))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def round_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates that don't change with the estimator."""

    def estimate(
        shapes: Any, recipe: Recipe, kind: Any, limit: int | None, *_: Any, **__: Any
    ) -> Any:
        return MemoryEstimate(
            weights=269_000_000,
            adapter=4_900_000,
            gradients=4_900_000,
            optimizer=9_800_000,
            activations=recipe.batch_size * 1_100_000_000,
            loss=recipe.batch_size * 700_000_000,
            cache=250_000_000,
            base=200_000_000,
            limit=limit,
            known_family=True,
        )

    monkeypatch.setattr("mlxft.memory.calibration.estimate", estimate)

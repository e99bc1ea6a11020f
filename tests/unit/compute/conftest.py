"""Tiny models, data and whole training sessions for the tests of compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tiny_model import make_tiny_data, make_tiny_model

from mlxft.compute.training import TrainingSession
from mlxft.recipe import Recipe, apply_settings
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory, create

E = TypeVar("E")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def recipe(tiny_model: Path, tiny_data: Path) -> Recipe:
    """Six steps of two records, two of three layers, no validation."""
    settings = (
        "iters=6",
        "batch_size=2",
        "num_layers=2",
        "learning_rate=1e-3",
        "steps_per_report=2",
        "steps_per_eval=100",
        "save_every=100",
        "val_batches=0",
    )
    return apply_settings(Recipe(model=str(tiny_model), data=str(tiny_data)), settings)


@dataclass
class Run:
    """A run directory that is trained in sessions, and the events of the last one."""

    directory: RunDirectory
    recipe: Recipe
    events: list[Any] = field(default_factory=list)

    def session(self, at_safe_point: Callable[[TrainingSession], None] | None = None) -> Any:
        """A session that calls back at each safe point."""
        self.events = []

        def visit() -> None:
            if at_safe_point:
                at_safe_point(session)

        session = TrainingSession(self.recipe, self.directory, self.events.append, visit)
        return session

    def train(
        self, at_safe_point: Callable[[TrainingSession], None] | None = None
    ) -> ev.RunFinished:
        """Prepare and run one session to its end."""
        session = self.session(at_safe_point)
        session.prepare()
        finished = session.run()
        assert isinstance(finished, ev.RunFinished)
        return finished

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.of(ev.StepFinished)]

    def adapter(self) -> bytes:
        return self.directory.adapter_file.read_bytes()


@pytest.fixture
def make_run(tmp_path: Path, recipe: Recipe) -> Callable[..., Run]:
    """Makes a run with settings over the usual recipe."""

    def make(*settings: str) -> Run:
        changed = apply_settings(recipe, settings)
        return Run(create(tmp_path / "runs", changed, "run"), changed)

    return make


def stop_after(step: int) -> Callable[[TrainingSession], None]:
    """A safe-point visitor that stops the run once the step is done."""

    def visit(session: TrainingSession) -> None:
        if session.step >= step:
            session.request_stop()

    return visit

"""A small project on disk whose runs can be started, watched and ended."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from mlxft import recipe as recipes
from mlxft.engine.launch import launch_training
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs import lock
from mlxft.runs.directory import RunDirectory, create
from mlxft.runs.journal import JournalReader
from support.models import make_tiny_model

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 60.0) -> T:
    """Look again and again until something true is seen, and return it.

    Raises `AssertionError` when it is not in time.
    """
    end = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)
    return seen


def is_free(path: Path) -> bool:
    """Whether no process holds this lock."""
    return not lock.is_taken(path)


ENDLESS = (
    "iters=1000000",
    "num_layers=2",
    "max_seq_length=64",
    "val_batches=0",
    "save_every=50000",
)


@dataclass(frozen=True)
class Project:
    """A folder with a tiny model, a few records and a recipe that trains until it is stopped."""

    folder: Path
    recipe: Recipe

    def create(self, *settings: str) -> RunDirectory:
        """A run of the recipe with these settings that isn't started."""
        recipe = recipes.apply_settings(self.recipe, settings)
        return create(self.folder / "adapters", recipe, "tiny")

    def start(self, *settings: str) -> RunDirectory:
        """Start a run of the recipe with these settings."""
        run = self.create(*settings)
        launch_training(run)
        return run

    def end_engines(self) -> None:
        """Kill every running engine, and wait until it has released its run."""
        for path in (self.folder / "adapters").glob("*/lock"):
            process = lock.holder(path)
            if process:
                os.kill(int(process), signal.SIGKILL)
                eventually(partial(is_free, path))


def make_project(folder: Path) -> Project:
    """Write model, data and recipe into a new folder."""
    (folder / "data").mkdir(parents=True)
    for split, count in (("train", 40), ("valid", 8)):
        records = (
            {"prompt": f"Turn on lamp {n}", "completion": f"Lamp {n} is on."} for n in range(count)
        )
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "data" / f"{split}.jsonl").write_text(lines)
    recipe = recipes.apply_settings(
        Recipe(model=str(make_tiny_model(folder / "model")), data=str(folder / "data")), ENDLESS
    )
    recipes.save(recipe, folder / "recipe.yaml")
    return Project(folder, recipe)


def events_of(run: RunDirectory) -> list[ev.AnyEvent]:
    """The run's journal as it is now."""
    return JournalReader(run.journal_file).read()

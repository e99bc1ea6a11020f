"""When and what a run saves: it never loses a good step, and never overwrites other work."""

from __future__ import annotations

import time
from pathlib import Path

from mlxft.compute.training import checkpoint
from mlxft.compute.training.preparation import Prepared
from mlxft.compute.training.state import TrainingState
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory


class Saver:
    """Saves a run and knows which state is on disk."""

    def __init__(
        self, directory: RunDirectory, recipe: Recipe, saved: TrainingState | None = None
    ) -> None:
        """`saved` is the state of the checkpoint that the run resumes from."""
        self._directory = directory
        self._recipe = recipe
        self._saved = saved
        starts_over = saved is None and directory.adapter_file.exists()
        self._earlier = checkpoint.earlier_adapter(directory) if starts_over else None

    @property
    def step(self) -> int | None:
        """The last saved step."""
        return self._saved.step if self._saved else None

    @property
    def best_step(self) -> int | None:
        """The best validation's step as of the last save."""
        return self._saved.best_step if self._saved else None

    @property
    def earlier_adapter(self) -> Path | None:
        """Where the first save keeps the adapter of a run that starts over."""
        return self._earlier

    def is_saved(self, state: TrainingState) -> bool:
        """Whether exactly this state is on disk."""
        return self._saved == state

    def accept(self, state: TrainingState) -> None:
        """Take a state as saved that differs in nothing that a resume needs."""
        self._saved = state

    def save(self, prepared: Prepared, state: TrainingState) -> ev.CheckpointSaved:
        """Save the run in this state. Raises `StorageError`; what was saved before stays."""
        started = time.perf_counter()
        if self._earlier is not None:
            checkpoint.keep_adapter(self._directory, self._earlier)
            self._earlier = None
        path = checkpoint.save(
            self._directory,
            self._recipe,
            state,
            model=prepared.loaded.model,
            optimizer=prepared.optimizer,
            accumulated=prepared.stepper.accumulated,
            base=prepared.base,
        )
        self._saved = state
        return saved_event(self._directory, state, path, time.perf_counter() - started)


def saved_event(
    directory: RunDirectory, state: TrainingState, path: Path, seconds: float = 0.0
) -> ev.CheckpointSaved:
    """The journal's event of a checkpoint."""
    return ev.CheckpointSaved(
        step=state.step,
        path=str(path.relative_to(directory.path)),
        best=state.best_step == state.step,
        seconds=seconds,
    )

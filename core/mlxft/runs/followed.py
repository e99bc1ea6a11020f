"""A run as its journal and its lock show it; no event loop and no widget."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.errors import FailureCause, RecipeError
from mlxft.recipe import Recipe
from mlxft.runs.death import cause_of_death
from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import RunFailed, RunStarted
from mlxft.runs.journal import JournalReader
from mlxft.runs.view import LIVE, RunView, State, fold, state

START_SECONDS = 60.0
"""How long a busy machine may take to start Python."""


@dataclass(frozen=True, eq=False)
class FollowedRun:
    """A run: its directory, its view, and what it is doing."""

    directory: RunDirectory
    view: RunView
    state: State
    recipe: Recipe
    """What its latest session was started with, not the recipe being edited."""
    died_of: FailureCause | None = None
    """Why the engine of a lost run ended, if its log says so."""
    is_kept: bool = True
    """Whether its folder is there; that of a failed start is deleted while its error is shown."""

    @property
    def live(self) -> bool:
        """Whether an engine is running it."""
        return self.state in LIVE


class Follower:
    """Reads what was appended to one run's journal since the last poll."""

    def __init__(
        self,
        directory: RunDirectory,
        patience: float = START_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`patience` is the time an engine has to start, in seconds since the run was created."""
        self._patience = patience
        self._clock = clock
        self._directory = directory
        self._reader = JournalReader(directory.journal_file)
        self._view = RunView()
        self._recipe: tuple[RunStarted | None, Recipe] | None = None
        self._seen: FollowedRun | None = None

    def poll(self) -> FollowedRun | None:
        """The run as it is now; None if nothing has changed. The first call may take long."""
        if self._reader.restarted():
            self._view, self._recipe = RunView(), None
        before = self._view
        # The lock is read before the journal: an engine writes its last event, then releases it.
        live = self._is_live()
        self._view = reduce(fold, self._reader.batches(), self._view)
        now = state(self._view, live or self._is_live())
        if now == "lost" and self._view.started is None and not self._is_old():
            now = "starting"
        if self._seen and self._view is before and now == self._seen.state:
            return None
        died_of = cause_of_death(self._directory.log_file) if now == "lost" else None
        self._seen = FollowedRun(self._directory, self._view, now, self._recorded_recipe(), died_of)
        return self._seen

    def _is_live(self) -> bool:
        """Whether an engine holds the lock; not asked of an ended run, which is being resumed."""
        return self._view.ending is None and self._directory.is_live()

    def _is_old(self) -> bool:
        """Whether an engine would have taken this run by now."""
        try:
            return self._clock() - self._directory.recipe_file.stat().st_mtime > self._patience
        except OSError:
            return True

    def _recorded_recipe(self) -> Recipe:
        """The journal's recipe; before the first session the file's."""
        started = self._view.started
        if self._recipe is None or self._recipe[0] is not started:
            self._recipe = started, recorded_recipe(self._directory, started)
        return self._recipe[1]


def recorded_recipe(directory: RunDirectory, started: RunStarted | None) -> Recipe:
    """The recipe that a session was started with; before the first one the file's."""
    try:
        return directory.recipe() if started is None else recipes.from_run(started.recipe)
    except RecipeError:
        # Written by another version; the view still has the steps.
        return Recipe()


def read_run(directory: RunDirectory) -> FollowedRun:
    """The run as it is now, its whole journal folded."""
    run = Follower(directory, patience=0).poll()
    assert run is not None
    return run


def has_failed_to_start(run: FollowedRun) -> bool:
    """Whether a run has ended in an error before its first step, and its log says nothing more."""
    if run.live or run.view.steps.count or run.view.checkpoints:
        return False
    if isinstance(run.view.ending, RunFailed):
        named = run.directory.log_file.name in run.view.ending.message
        return not run.view.ending.traceback and not (named and _has_text(run.directory.log_file))
    return run.view.ending is None and not _has_text(run.directory.log_file)


def _has_text(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False

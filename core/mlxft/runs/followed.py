"""Follows a run's journal to its present state; no event loop and no widget."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from mlxft.errors import RecipeError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalReader
from mlxft.runs.view import RunView, State, fold, state

START_SECONDS = 60.0
"""How long a loaded machine may take to start Python."""


@dataclass(frozen=True, eq=False)
class FollowedRun:
    """The run on screen: its directory, its view, and what it is doing."""

    directory: RunDirectory
    view: RunView
    state: State
    recipe: Recipe
    """What it was started with; the place's own recipe is the one being edited."""

    @property
    def live(self) -> bool:
        """Whether an engine is at work on it."""
        return self.state in ("starting", "running", "paused")


class Follower:
    """Reads what was appended to one run's journal since the last look."""

    def __init__(
        self,
        directory: RunDirectory,
        patience: float = START_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`patience` is how long an engine may take to come, in seconds since the run was made."""
        self._patience = patience
        self._clock = clock
        self._directory = directory
        self._reader = JournalReader(directory.journal_file)
        self._view = RunView()
        self._recipe: Recipe | None = None
        self._seen: FollowedRun | None = None

    def look(self) -> FollowedRun | None:
        """The run as it is now; None if nothing has changed. May take long at the first call."""
        if self._reader.begins_anew():
            self._view, self._recipe = RunView(), None
        before = self._view
        self._view = reduce(fold, self._reader.batches(), self._view)
        # An ended run is what its journal says; asking its lock could be in a resume's way.
        live = self._view.ending is None and self._directory.is_live()
        now = state(self._view, live)
        if now == "lost" and self._view.started is None and not self._is_old():
            now = "starting"
        if self._seen and self._view is before and now == self._seen.state:
            return None
        self._seen = FollowedRun(self._directory, self._view, now, self._its_recipe())
        return self._seen

    def _is_old(self) -> bool:
        """Whether an engine that should have taken this run would have done so by now."""
        try:
            return self._clock() - self._directory.recipe_file.stat().st_mtime > self._patience
        except OSError:
            return True

    def _its_recipe(self) -> Recipe:
        if self._recipe is None:
            try:
                self._recipe = self._directory.recipe()
            except RecipeError:
                # A recipe of another version; the journal still knows what it can.
                self._recipe = Recipe()
        return self._recipe

"""The newest runs of a project, read again only where their journals have grown."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Final

from mlxft.errors import RunError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun, Follower
from mlxft.storage.paths import expanded

MOST_RUNS: Final = 100
"""Runs whose whole journals are read; a table of all has only their summaries."""


class History:
    """The latest runs of an adapters folder with their views: live ones first, then the newest."""

    def __init__(self, root: Path, most: int = MOST_RUNS) -> None:
        self._root = root
        self._most = most
        self._followers: dict[RunDirectory, Follower] = {}
        self._runs: dict[RunDirectory, FollowedRun] = {}
        self._latest: tuple[FollowedRun, ...] | None = None
        self._lock = threading.Lock()

    def poll(self, known: tuple[FollowedRun, ...] | None = None) -> tuple[FollowedRun, ...] | None:
        """The runs as they are now; None if they are still `known`. Blocks: call it in a thread.

        Any number of callers may poll; each compares with what it got itself.
        """
        with self._lock:
            if self._read_new_events() or self._latest is None:
                self._latest = self._sorted()
            return None if known is self._latest else self._latest

    def _read_new_events(self) -> bool:
        """Whether a run was added, deleted or has changed since the last poll."""
        found = set(newest_first(self._root)[: self._most])
        deleted = self._followers.keys() - found
        for directory in deleted:
            del self._followers[directory]
            self._runs.pop(directory, None)
        changed = bool(deleted)
        for directory in found:
            follower = self._followers.setdefault(directory, Follower(directory))
            run = follower.poll()
            # It may have been deleted meanwhile.
            if run is not None and directory.recipe_file.is_file():
                self._runs[directory] = run
                changed = True
        return changed

    def _sorted(self) -> tuple[FollowedRun, ...]:
        newest = sorted(self._runs.values(), key=lambda run: run.directory.written, reverse=True)
        return tuple(sorted(newest, key=lambda run: not run.live))


def _directories(root: Path) -> list[RunDirectory]:
    with contextlib.suppress(OSError):
        return [RunDirectory(path) for path in root.iterdir() if (path / "recipe.yaml").is_file()]
    return []


def newest_first(root: Path) -> list[RunDirectory]:
    """The runs of an adapters folder by their last write; reads no journal."""
    return sorted(_directories(root), key=lambda run: run.written, reverse=True)


def current(root: Path) -> RunDirectory | None:
    """The run that an engine is working on, or else the newest; None where there is no run."""
    runs = newest_first(root)
    return next((run for run in runs if run.is_live()), next(iter(runs), None))


def find(root: Path, name: str | None) -> RunDirectory:
    """A run by name or path; without a name the current one. Raises `RunError`."""
    if name is None:
        run = current(root)
        if run is None:
            raise RunError(f"{root}: there is no run yet; mlxft-tui demo makes one.")
        return run
    for path in places(root, name):
        if (path / "recipe.yaml").is_file():
            return RunDirectory(path.resolve())
        if RunDirectory(path).queued_recipe_file.is_file():
            raise RunError(f"{name} waits in the queue; mlxft-tui queue list shows its place.")
    raise RunError(f"{name}: no such run in {root}; mlxft-tui runs lists them.")


def places(root: Path, name: str) -> tuple[Path, ...]:
    """Where something named on the command line may be: in the adapters folder, in the project's,
    or in the current one."""
    path = expanded(name)
    return (root / path, root.parent / path, path)

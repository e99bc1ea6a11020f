"""All runs of a project, read again only where their journals have grown."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import FollowedRun, Follower


class History:
    """The runs of an adapters folder: live ones first, then the newest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._followers: dict[Path, Follower] = {}
        self._runs: dict[Path, FollowedRun] = {}
        self._latest: tuple[FollowedRun, ...] | None = None
        self._lock = threading.Lock()

    def look(self, known: tuple[FollowedRun, ...] | None = None) -> tuple[FollowedRun, ...] | None:
        """The runs as they are now; None if they are what was `known`. Call it in a thread.

        A look whose caller has gone meanwhile hides nothing from the next one.
        """
        with self._lock:
            if self._changed() or self._latest is None:
                self._latest = self._sorted()
            return None if known is self._latest else self._latest

    def _changed(self) -> bool:
        """Whether a run has come, gone or grown since the last look."""
        found = set(_folders(self._root))
        gone = self._runs.keys() - found
        for path in gone:
            del self._runs[path], self._followers[path]
        changed = bool(gone)
        for path in found:
            follower = self._followers.setdefault(path, Follower(RunDirectory(path)))
            if run := follower.look():
                self._runs[path] = run
                changed = True
        return changed

    def _sorted(self) -> tuple[FollowedRun, ...]:
        newest_first = sorted(self._runs.items(), key=lambda each: -_written(each[0]))
        return tuple(sorted((run for _, run in newest_first), key=lambda run: not run.live))


def _folders(root: Path) -> Iterable[Path]:
    with contextlib.suppress(OSError):
        for path in root.iterdir():
            if (path / "recipe.yaml").is_file():
                yield path


def _written(path: Path) -> float:
    """When a run was last written to, for the order of the list."""
    for file in (path / "events.jsonl", path / "recipe.yaml"):
        with contextlib.suppress(OSError):
            return file.stat().st_mtime
    return 0.0

"""All runs of a project, read again only where their journals have grown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from mlxft.runs.directory import RunDirectory
from mlxft_tui.following import FollowedRun, Follower


class History:
    """The runs of an adapters folder: live ones first, then the newest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._followers: dict[Path, Follower] = {}
        self._runs: dict[Path, FollowedRun] = {}
        self._looked = False

    def look(self) -> tuple[FollowedRun, ...] | None:
        """The runs as they are now; None if nothing has changed. Call it in a thread."""
        found = {path: _changed(path) for path in _folders(self._root)}
        gone = self._runs.keys() - found.keys()
        for path in gone:
            del self._runs[path], self._followers[path]
        changed, self._looked = bool(gone) or not self._looked, True
        for path in found:
            follower = self._followers.setdefault(path, Follower(RunDirectory(path)))
            if run := follower.look():
                self._runs[path] = run
                changed = True
        if not changed:
            return None
        newest_first = sorted(self._runs.items(), key=lambda each: -found[each[0]])
        return tuple(sorted((run for _, run in newest_first), key=lambda run: not run.live))


def _folders(root: Path) -> Iterable[Path]:
    with contextlib.suppress(OSError):
        for path in root.iterdir():
            if (path / "recipe.yaml").is_file():
                yield path


def _changed(path: Path) -> float:
    """When a run was last written to, for the order of the list."""
    for file in (path / "events.jsonl", path / "recipe.yaml"):
        with contextlib.suppress(OSError):
            return file.stat().st_mtime
    return 0.0

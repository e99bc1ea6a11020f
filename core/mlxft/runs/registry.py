"""The runs of a project, found on disk."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from mlxft.errors import RunError
from mlxft.runs.directory import RunDirectory
from mlxft.runs.journal import JournalReader
from mlxft.runs.view import RunView, State, fold, state


@dataclass(frozen=True)
class RunSummary:
    """One run as a list shows it."""

    directory: RunDirectory
    view: RunView
    state: State
    live: bool
    """Whether an engine holds it."""


def read_view(directory: RunDirectory) -> RunView:
    """The run's whole journal, folded."""
    return reduce(fold, JournalReader(directory.journal_file).batches(), RunView())


def summarize(directory: RunDirectory) -> RunSummary:
    """The run with its state."""
    # Asked first, because an engine writes its last event before it lets go of the run.
    live = directory.is_live()
    view = read_view(directory)
    return RunSummary(directory, view, state(view, live), live)


def runs(root: Path) -> list[RunSummary]:
    """All runs under an adapters folder: live ones first, then the newest."""
    found: list[tuple[float, RunSummary]] = []
    for path in _folders(root):
        # A run may be deleted during the look.
        with contextlib.suppress(OSError):
            if (path / "recipe.yaml").is_file():
                found.append((path.stat().st_mtime, summarize(RunDirectory(path))))
    ordered = sorted(found, key=lambda each: (not each[1].live, -each[0]))
    return [summary for _, summary in ordered]


def _folders(root: Path) -> list[Path]:
    try:
        return list(root.iterdir())
    except OSError:
        return []


def find(root: Path, name: str | None) -> RunDirectory:
    """A run by name or path; without a name the live one, or else the newest.

    Raises `RunError`.
    """
    if name is not None:
        for path in (root / name, Path(name)):
            if (path / "recipe.yaml").is_file():
                return RunDirectory(path.resolve())
        raise RunError(f"{name}: no such run in {root}; mlxft-tui runs lists them.")
    found = runs(root)
    if not found:
        raise RunError(f"{root}: there is no run yet; mlxft-tui demo makes one.")
    return found[0].directory

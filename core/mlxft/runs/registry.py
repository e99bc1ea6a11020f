"""The runs of a project, found on disk."""

from __future__ import annotations

from dataclasses import dataclass
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

    @property
    def live(self) -> bool:
        """Whether an engine is at work on it."""
        return self.state in ("starting", "running", "paused")


def read_view(directory: RunDirectory) -> RunView:
    """The run's whole journal, folded."""
    return fold(RunView(), JournalReader(directory.journal_file).read())


def summarize(directory: RunDirectory) -> RunSummary:
    """The run with its state."""
    view = read_view(directory)
    return RunSummary(directory, view, state(view, directory.is_live()))


def runs(root: Path) -> list[RunSummary]:
    """All runs under an adapters folder: live ones first, then the newest."""
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if (path / "recipe.yaml").is_file()]
    summaries = [summarize(RunDirectory(path)) for path in folders]
    return sorted(summaries, key=lambda each: (not each.live, -each.directory.path.stat().st_mtime))


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

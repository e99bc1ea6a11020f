"""All runs of a project as rows of one table; journals that haven't changed aren't read again."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mlxft import recipe as recipes
from mlxft.comparison import labels as labelled
from mlxft.comparison.evaluations import FILE_NAME as EVALUATIONS
from mlxft.comparison.evaluations import KeptEvaluation, read_evaluations
from mlxft.comparison.labels import Labels, read_labels
from mlxft.comparison.summary import Summary, SummaryReader, values_of
from mlxft.comparison.summary_cache import Stamp, SummaryCache
from mlxft.errors import RecipeError
from mlxft.recipe import PARAMETERS, Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import START_SECONDS
from mlxft.runs.view import LIVE, State, state_of
from mlxft.storage.paths import cache_dir


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRow:
    """A run in the table. An unchanged run keeps its row from one poll to the next."""

    directory: RunDirectory
    summary: Summary
    state: State
    labels: Labels = labelled.NONE
    evaluations: tuple[KeptEvaluation, ...] = ()
    """The latest last."""
    written: float = 0.0
    """When the journal was last written; seconds since 1970."""

    @property
    def run(self) -> str:
        """The folder's name, which commands take."""
        return self.directory.name

    @property
    def title(self) -> str:
        """The name that people see."""
        return self.labels.name or self.directory.name

    @property
    def live(self) -> bool:
        """Whether an engine is running it."""
        return self.state in LIVE

    @property
    def evaluation(self) -> KeptEvaluation | None:
        """The latest evaluation."""
        return self.evaluations[-1] if self.evaluations else None

    def value(self, key: str) -> Any:
        """A recipe value by its full key, as the latest session trained with it."""
        value = (self.summary.recipe or {}).get(key, PARAMETERS[key].default)
        return tuple(value) if isinstance(value, list) else value

    @property
    def recipe(self) -> Recipe:
        """The recipe of the latest session. Raises `RecipeError` for one of another version."""
        recipe = Recipe()
        for key in self.summary.recipe or {}:
            recipe = recipes.replace(recipe, key, self.value(key))
        return recipe


@dataclass(kw_only=True)
class _Entry:
    """What is known of a run's folder, and the stamps of the files it was read from."""

    row: RunRow
    read_from: tuple[Stamp, Stamp]
    """Of the journal and the recipe."""
    said_in: tuple[Stamp, Stamp]
    """Of the labels and the evaluations."""
    reader: SummaryReader | None = None
    """Reads on in the journal of a run that hasn't ended."""


@dataclass(frozen=True)
class _Found:
    """A run's folder as it is on disk."""

    directory: RunDirectory
    journal: Stamp
    recipe: Stamp
    labels: Stamp
    evaluations: Stamp
    written: float


class RunTable:
    """The runs of an adapters folder: pinned and live ones first, then the newest."""

    def __init__(
        self,
        root: Path,
        cache: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`cache` is the file that keeps summaries; by default one in the user's cache."""
        self._root = root
        self._clock = clock
        self._cache = SummaryCache(cache or summaries_file(root))
        self._entries: dict[str, _Entry] = {}
        self._latest: tuple[RunRow, ...] | None = None
        self._lock = threading.Lock()
        self.unread = 0
        """Runs that a poll has left for the next one."""

    def poll(
        self, known: tuple[RunRow, ...] | None = None, *, patience: float | None = None
    ) -> tuple[RunRow, ...] | None:
        """The rows as they are now; None if they are still `known`. Blocks: call it in a thread.

        Journals are read from the newest run on; after `patience` seconds the rest of them is left
        to the next poll. Any number of callers may poll, each comparing with what it got itself.
        """
        deadline = time.monotonic() + patience if patience is not None else None
        with self._lock:
            if self._read(deadline) or self._latest is None:
                self._latest = _sorted(each.row for each in self._entries.values())
            if not self.unread:
                self._cache.save(self._entries)
            return None if known is self._latest else self._latest

    def _read(self, deadline: float | None) -> bool:
        """Whether a run was added, deleted or has changed since the last poll."""
        known = {name: each.row.directory for name, each in self._entries.items()}
        found = _folders(self._root, known)
        changed = self._forget(known.keys() - found.keys())
        waiting = []
        for name, folder in found.items():
            entry = self._entries.get(name)
            if entry is None or entry.read_from != (folder.journal, folder.recipe):
                waiting.append(folder)
            else:
                changed |= self._keep(entry, folder)
        waiting.sort(key=lambda each: each.written, reverse=True)
        for at, folder in enumerate(waiting):
            if deadline is not None and time.monotonic() > deadline:
                self.unread = len(waiting) - at
                return changed
            self._read_run(folder)
            changed = True
        self.unread = 0
        return changed

    def _forget(self, names: Iterable[str]) -> bool:
        gone = list(names)
        for name in gone:
            del self._entries[name]
        return bool(gone)

    def _keep(self, entry: _Entry, folder: _Found) -> bool:
        """Follow what changes without the journal: the engine, the labels and evaluations."""
        row = entry.row
        state = row.state if row.summary.ending else self._state(row.summary, folder)
        said_in = (folder.labels, folder.evaluations)
        if state == row.state and said_in == entry.said_in:
            return False
        self._put(entry, folder, row.summary, state)
        return True

    def _read_run(self, folder: _Found) -> None:
        name = folder.directory.name
        stamps = (folder.journal, folder.recipe)
        entry = self._entries.get(name)
        if entry is None and (kept := self._cache.get(name, stamps)) is not None:
            self._put(None, folder, kept, self._state(kept, folder))
            return
        reader = entry.reader if entry is not None else None
        reader = reader or SummaryReader(folder.directory.journal_file)
        # The lock is read before the journal: an engine writes its last event, then releases it.
        live = folder.directory.is_live()
        summary = reader.read()
        if not folder.directory.recipe_file.is_file():
            return  # It was deleted meanwhile.
        if summary.recipe is None:
            summary = msgspec.structs.replace(summary, recipe=_recipe_values(folder.directory))
        if not live:
            self._cache.put(name, stamps, summary)
        if summary.ending:
            reader = None
        state = self._state(summary, folder, live=live)
        self._put(entry, folder, summary, state, reader)

    def _put(
        self,
        entry: _Entry | None,
        folder: _Found,
        summary: Summary,
        state: State,
        reader: SummaryReader | None = None,
    ) -> None:
        """Replace a run's row; what its files say is only read where they have changed."""
        directory, said_in = folder.directory, (folder.labels, folder.evaluations)
        before = entry.row if entry and entry.said_in == said_in else None
        row = RunRow(
            directory=directory,
            summary=summary,
            state=state,
            labels=before.labels if before else _labels(folder),
            evaluations=before.evaluations if before else _evaluations(folder),
            written=folder.written,
        )
        self._entries[directory.name] = _Entry(
            row=row,
            read_from=(folder.journal, folder.recipe),
            said_in=said_in,
            reader=reader or (entry.reader if entry and not summary.ending else None),
        )

    def _state(self, summary: Summary, folder: _Found, *, live: bool = False) -> State:
        found = state_of(
            summary.ending,
            live=live or (summary.ending is None and folder.directory.is_live()),
            paused=summary.paused,
            has_trained=summary.has_trained,
        )
        if found == "lost" and summary.started is None and folder.recipe is not None:
            written = folder.recipe[1] / 1e9
            return "starting" if self._clock() - written < START_SECONDS else "lost"
        return found


def _folders(root: Path, known: Mapping[str, RunDirectory]) -> dict[str, _Found]:
    """The runs of a folder by name, with the stamps of their files."""
    found: dict[str, _Found] = {}
    try:
        names = os.listdir(root)
    except OSError:
        return found
    for name in names:
        path = f"{root}/{name}"
        recipe = _stamp(f"{path}/recipe.yaml")
        if recipe is None:
            continue
        journal = _stamp(f"{path}/events.jsonl")
        found[name] = _Found(
            known.get(name) or RunDirectory(root / name),
            journal,
            recipe,
            _stamp(f"{path}/{labelled.FILE_NAME}"),
            _stamp(f"{path}/{EVALUATIONS}"),
            (journal or recipe)[1] / 1e9,
        )
    return found


def _stamp(path: str) -> Stamp:
    """What changes when a file does; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _recipe_values(directory: RunDirectory) -> dict[str, Any]:
    try:
        return values_of(directory.recipe())
    except RecipeError:
        # Written by another version, or deleted meanwhile.
        return values_of(Recipe())


def _labels(folder: _Found) -> Labels:
    return read_labels(folder.directory) if folder.labels else labelled.NONE


def _evaluations(folder: _Found) -> tuple[KeptEvaluation, ...]:
    return read_evaluations(folder.directory) if folder.evaluations else ()


def _sorted(rows: Iterable[RunRow]) -> tuple[RunRow, ...]:
    newest = sorted(rows, key=lambda row: row.written, reverse=True)
    return tuple(sorted(newest, key=lambda row: (not row.labels.pinned, not row.live)))


def summaries_file(root: Path) -> Path:
    """Where the summaries of an adapters folder are kept."""
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_dir() / "runs" / f"{key}.msgpack"


def row_of(directory: RunDirectory) -> RunRow:
    """One run's row as it is now, its journal read."""
    live = directory.is_live()
    summary = SummaryReader(directory.journal_file).read()
    if summary.recipe is None:
        summary = msgspec.structs.replace(summary, recipe=_recipe_values(directory))
    return RunRow(
        directory=directory,
        summary=summary,
        state=state_of(
            summary.ending,
            live=live or directory.is_live(),
            paused=summary.paused,
            has_trained=summary.has_trained,
        ),
        labels=read_labels(directory),
        evaluations=read_evaluations(directory),
        written=directory.written,
    )

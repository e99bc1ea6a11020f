"""A data folder as the screens show it: read in a thread, with updates as it becomes known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mlxft.errors import DataError

if TYPE_CHECKING:
    from mlxft.data.checking import Report
    from mlxft.data.faults import Fault, FaultGroup
    from mlxft.data.places import LinePlaces
    from mlxft.data.split_files import SplitName
    from mlxft.data.statistics import Statistics

UPDATE_SECONDS = 1.0
"""Time between two progress updates."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitView:
    """One file of the folder, as far as it has been read."""

    name: SplitName
    path: Path
    places: LinePlaces | None = None
    """Its lines; None if the file is missing or can't be opened."""
    read: int = 0
    """Lines checked so far."""
    faults: tuple[Fault, ...] = ()
    fault_count: int = 0
    statistics: Statistics | None = None
    shared: int = 0
    """How many records are also in the training set, exactly or nearly."""
    prompts_shared: int = 0
    """How many other records answer a prompt of the training set differently."""
    warnings: tuple[Fault, ...] = ()
    """Warnings about records that can be trained."""
    fault_groups: tuple[FaultGroup, ...] = ()
    warning_groups: tuple[FaultGroup, ...] = ()
    """Faults and warnings as they are listed, grouped here since thousands would delay keys."""
    problem: str = ""
    """Why there is nothing to show, in a sentence with the fix."""

    @property
    def lines(self) -> int:
        """How many lines it has; an estimate until they are counted."""
        return self.places.count if self.places else 0

    @property
    def counted(self) -> bool:
        """Whether `lines` is exact."""
        return self.places is not None and self.places.exact

    def is_progress_of(self, before: SplitView) -> bool:
        """Whether only the number of checked lines has changed since then."""
        return self.fault_count == before.fault_count and all(
            getattr(self, name) is getattr(before, name)
            for name in ("name", "path", "places", "statistics", "problem")
        )

    @property
    def complete(self) -> bool:
        """Whether nothing more will be known."""
        return self.statistics is not None or bool(self.problem)


@dataclass(frozen=True, eq=False)
class DataView:
    """A data folder, as far as it has been read."""

    folder: Path
    splits: tuple[SplitView, ...]

    def split(self, name: SplitName) -> SplitView:
        """One of the files."""
        return next(each for each in self.splits if each.name == name)

    @property
    def train_records(self) -> int | None:
        """Number of trainable records, once counted."""
        found = self.split("train").statistics
        return found.records if found else None


def is_progress(old: DataView, new: DataView) -> bool:
    """Whether only the numbers of checked lines have changed."""
    pairs = zip(old.splits, new.splits, strict=True)
    return old.folder == new.folder and all(after.is_progress_of(before) for before, after in pairs)


def stamp(folder: Path) -> tuple[object, ...]:
    """Names, times and sizes of the folder's files, to detect changes."""
    from mlxft.data.containers import stamp
    from mlxft.data.split_files import SplitName, split_file

    return tuple(stamp(split_file(folder, name)) for name in get_args(SplitName))


def without_records(folder: Path, reason: str) -> DataView:
    """A folder with nothing to show, for the given reason."""
    from mlxft.data.split_files import SplitName, split_file

    names: tuple[SplitName, ...] = get_args(SplitName)
    splits = (SplitView(name=each, path=split_file(folder, each), problem=reason) for each in names)
    return DataView(folder, tuple(splits))


def read(
    folder: Path,
    columns: Mapping[str, str],
    send: Callable[[DataView], object],
    cancelled: Callable[[], bool],
) -> None:
    """Read all files of the folder, sending what is known, until `cancelled`.

    All files are opened first, so that they can be browsed; then their lines are counted, then
    checked.
    """
    from mlxft.data.split_files import SplitName, split_file

    names: tuple[SplitName, ...] = get_args(SplitName)
    opened = tuple(
        _opened(SplitView(name=name, path=split_file(folder, name)), folder) for name in names
    )
    view = DataView(folder, opened)
    send(view)
    for name in names:
        split = _counted(view.split(name), _sender(send, view), cancelled)
        if cancelled():
            return
        view = _with(view, split)
        send(view)
    _check(view, columns, send, cancelled)


def _sender(send: Callable[[DataView], object], view: DataView) -> Callable[[SplitView], object]:
    return lambda split: send(_with(view, split))


def _with(view: DataView, split: SplitView) -> DataView:
    splits = tuple(split if each.name == split.name else each for each in view.splits)
    return replace(view, splits=splits)


def _opened(split: SplitView, folder: Path) -> SplitView:
    """The file with its first lines found and the rest estimated."""
    from mlxft.data.containers import exists
    from mlxft.data.index import LineIndex
    from mlxft.data.places import LinePlaces

    if not exists(split.path):
        return replace(split, problem=_missing(split, folder))
    try:
        index = LineIndex(split.path)
    except DataError as error:
        return replace(split, problem=str(error))
    if not index.size:
        empty = f"{split.path} is empty; write one JSON record per line into it."
        return replace(split, problem=empty)
    next(index.build())
    return replace(split, places=LinePlaces(index))


def _counted(
    split: SplitView, send: Callable[[SplitView], object], cancelled: Callable[[], bool]
) -> SplitView:
    """The file with all its lines found; meaningless once cancelled."""
    from mlxft.data.places import LinePlaces

    if split.places is None:
        return split
    index, sent = split.places.index, time.monotonic()
    for _ in index.build():
        if cancelled():
            return split
        if time.monotonic() - sent >= UPDATE_SECONDS:
            sent = time.monotonic()
            send(replace(split, places=LinePlaces(index)))
    return replace(split, places=LinePlaces(index))


def _missing(split: SplitView, folder: Path) -> str:
    from mlxft.data.dataset import require_trainable
    from mlxft.recipe import Recipe

    if split.name == "train" or not folder.is_dir():
        try:
            require_trainable(folder, Recipe())
        except DataError as error:
            return str(error)
    use = {"valid": "the run has no validation", "test": "training doesn't need it"}
    return f"There is no {split.path.name} in {folder}; {use[split.name]}."


def _check(
    view: DataView,
    columns: Mapping[str, str],
    send: Callable[[DataView], object],
    cancelled: Callable[[], bool],
) -> None:
    from mlxft.data.checking import check

    present = [split for split in view.splits if split.places and not split.problem]

    def take(report: Report) -> None:
        nonlocal view
        split = next(each for each in view.splits if str(each.path) == report.path)
        view = _with(view, _reported(split, report))
        send(view)

    try:
        check([split.path for split in present], columns, take, lambda: not cancelled())
    except DataError as error:
        send(_with(view, replace(present[0], problem=str(error))))


def _reported(split: SplitView, report: Report) -> SplitView:
    from mlxft.data.data_warnings import data_warnings
    from mlxft.data.faults import grouped

    warnings = tuple(data_warnings(report))
    known = report.fault_count == split.fault_count
    return replace(
        split,
        read=report.read,
        faults=report.faults,
        fault_count=report.fault_count,
        statistics=report.statistics,
        shared=len(report.shared) + len(report.near_shared),
        prompts_shared=len(report.prompts_shared),
        warnings=warnings,
        fault_groups=split.fault_groups if known else tuple(grouped(report.faults)),
        warning_groups=tuple(grouped(warnings)),
    )

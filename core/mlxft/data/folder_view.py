"""A data folder as the screens see it: read in a thread, and told piece by piece."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mlxft.errors import DataError

if TYPE_CHECKING:
    from mlxft.data.checking import Report
    from mlxft.data.dataset import SplitName
    from mlxft.data.places import LinePlaces
    from mlxft.data.statistics import Statistics
    from mlxft.data.validation import Fault

TELL_SECONDS = 0.25
"""Time between two tellings of progress."""


@dataclass(frozen=True, eq=False)
class SplitView:
    """One file of the folder, as far as it is read."""

    name: SplitName
    path: Path
    places: LinePlaces | None = None
    """Its lines; None where the file is missing or can't be opened."""
    read: int = 0
    """Lines already checked."""
    faults: tuple[Fault, ...] = ()
    fault_count: int = 0
    statistics: Statistics | None = None
    shared: int = 0
    """How many records are in the training set too, or nearly."""
    doubts: tuple[Fault, ...] = ()
    """What is doubtful in records that can be trained."""
    problem: str = ""
    """Why there is nothing to show, in a sentence with its remedy."""

    @property
    def lines(self) -> int:
        """How many lines it has; an estimate until they are counted."""
        return self.places.count if self.places else 0

    @property
    def counted(self) -> bool:
        """Whether `lines` is exact."""
        return self.places is not None and self.places.exact

    @property
    def complete(self) -> bool:
        """Whether all that can be known is known."""
        return self.statistics is not None or bool(self.problem)


@dataclass(frozen=True, eq=False)
class DataView:
    """A data folder, as far as it is read."""

    folder: Path
    splits: tuple[SplitView, ...]

    def split(self, name: SplitName) -> SplitView:
        """One of the files."""
        return next(each for each in self.splits if each.name == name)

    @property
    def train_records(self) -> int | None:
        """Records that can be trained, once they are counted."""
        found = self.split("train").statistics
        return found.records if found else None


def stamp(folder: Path) -> tuple[object, ...]:
    """Names, times and sizes of the folder's files; another one means that they were changed."""
    from mlxft.data.containers import stamp
    from mlxft.data.dataset import SplitName, split_file

    return tuple(stamp(split_file(folder, name)) for name in get_args(SplitName))


def without_records(folder: Path, reason: str) -> DataView:
    """A folder of which there is nothing to show, in a sentence."""
    from mlxft.data.dataset import SplitName, split_file

    names: tuple[SplitName, ...] = get_args(SplitName)
    splits = (SplitView(each, split_file(folder, each), problem=reason) for each in names)
    return DataView(folder, tuple(splits))


def read(
    folder: Path,
    columns: Mapping[str, str],
    tell: Callable[[DataView], object],
    left: Callable[[], bool],
) -> None:
    """Read all files of the folder, telling what is known; `left` says when nobody listens.

    First every file is opened, so that all can be looked at; then its lines are counted, and then
    they are checked.
    """
    from mlxft.data.dataset import SplitName, split_file

    names: tuple[SplitName, ...] = get_args(SplitName)
    opened = tuple(_opened(SplitView(name, split_file(folder, name)), folder) for name in names)
    view = DataView(folder, opened)
    tell(view)
    for name in names:
        split = _counted(view.split(name), _teller(tell, view), left)
        if left():
            return
        view = _with(view, split)
        tell(view)
    _check(view, columns, tell, left)


def _teller(tell: Callable[[DataView], object], view: DataView) -> Callable[[SplitView], object]:
    return lambda split: tell(_with(view, split))


def _with(view: DataView, split: SplitView) -> DataView:
    splits = tuple(split if each.name == split.name else each for each in view.splits)
    return replace(view, splits=splits)


def _opened(split: SplitView, folder: Path) -> SplitView:
    """The file with its first lines found, and the rest estimated."""
    from mlxft.data.index import LineIndex
    from mlxft.data.places import LinePlaces

    if not split.path.exists():
        return replace(split, problem=_missing(split, folder))
    try:
        index = LineIndex(split.path)
    except DataError as error:
        return replace(split, problem=str(error))
    if not index.size:
        empty = f"{split.path} is empty; write one JSON record a line into it."
        return replace(split, problem=empty)
    next(index.build())
    return replace(split, places=LinePlaces(index))


def _counted(
    split: SplitView, tell: Callable[[SplitView], object], left: Callable[[], bool]
) -> SplitView:
    """The file with all its lines found; meaningless once `left`."""
    from mlxft.data.places import LinePlaces

    if split.places is None:
        return split
    index, told = split.places.index, time.monotonic()
    for _ in index.build():
        if left():
            return split
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            tell(replace(split, places=LinePlaces(index)))
    return replace(split, places=LinePlaces(index))


def _missing(split: SplitView, folder: Path) -> str:
    from mlxft.data.dataset import require_trainable
    from mlxft.recipe import Recipe

    if split.name == "train" or not folder.is_dir():
        try:
            require_trainable(folder, Recipe())
        except DataError as error:
            return str(error)
    use = {"valid": "the run goes without validation", "test": "nothing needs it for training"}
    way = "Press x on train to hold some of its records out."
    return f"There is no {split.path.name} in {folder}; {use[split.name]}. {way}"


def _check(
    view: DataView,
    columns: Mapping[str, str],
    tell: Callable[[DataView], object],
    left: Callable[[], bool],
) -> None:
    from mlxft.data.checking import check

    present = [split for split in view.splits if split.places and not split.problem]

    def take(report: Report) -> None:
        nonlocal view
        split = next(each for each in view.splits if str(each.path) == report.path)
        view = _with(view, _reported(split, report))
        tell(view)

    try:
        check([split.path for split in present], columns, take, lambda: not left())
    except DataError as error:
        tell(_with(view, replace(present[0], problem=str(error))))


def _reported(split: SplitView, report: Report) -> SplitView:
    from mlxft.data.data_warnings import doubts

    return replace(
        split,
        read=report.read,
        faults=report.faults,
        fault_count=report.fault_count,
        statistics=report.statistics,
        shared=len(report.shared) + len(report.near_shared),
        doubts=tuple(doubts(report)),
    )

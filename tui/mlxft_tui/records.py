"""A data folder as the screens see it: read in a thread, and told piece by piece."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from mlxft.errors import DataError

if TYPE_CHECKING:
    from mlxft.data.dataset import SplitName
    from mlxft.data.index import LineIndex
    from mlxft.data.statistics import Statistics
    from mlxft.data.validation import Fault, Line

MOST_FAULTS = 10_000
"""Faults kept of a file; a file of the wrong format has one on every line."""

TELL_SECONDS = 0.25
"""Time between two tellings of progress."""

BREATH_LINES: Final = 200
BREATH_SECONDS: Final = 0.0005
"""A pause after so many lines, in which the event loop gets the interpreter."""


@dataclass(frozen=True, eq=False)
class SplitView:
    """One file of the folder, as far as it is read."""

    name: SplitName
    path: Path
    index: LineIndex | None = None
    """Its lines; None where the file is missing or can't be opened."""
    lines: int = 0
    read: int = 0
    """Lines already checked."""
    faults: tuple[Fault, ...] = ()
    fault_count: int = 0
    statistics: Statistics | None = None
    shared: tuple[int, ...] = ()
    """Lines whose records are in the training set too."""
    problem: str = ""
    """Why there is nothing to show, in a sentence with its remedy."""

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


def stamp(folder: Path) -> tuple[tuple[int, int] | None, ...]:
    """Times and sizes of the folder's files; another one means that they were changed."""
    return tuple(_stamp(folder / f"{name}.jsonl") for name in ("train", "valid", "test"))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def read(folder: Path, tell: Callable[[DataView], object], left: Callable[[], bool]) -> None:
    """Read all files of the folder, telling what is known; `left` says when nobody listens.

    First every file's lines are found, so that all can be looked at; then they are checked.
    """
    from mlxft.data.dataset import SplitName, split_file

    names: tuple[SplitName, ...] = get_args(SplitName)
    view = DataView(folder, tuple(SplitView(name, split_file(folder, name)) for name in names))
    tell(view)
    for name in names:
        for split in _found_lines(view.split(name), folder):
            if left():
                return
            view = _with(view, split)
            tell(view)
    for name in names:
        if view.split(name).index is None or view.split(name).problem:
            continue
        split = _checked(view.split(name), _teller(tell, view), left)
        if left():
            return
        view = _with(view, split)
        tell(view)
    tell(_with_overlap(view))


def _teller(tell: Callable[[DataView], object], view: DataView) -> Callable[[SplitView], object]:
    return lambda split: tell(_with(view, split))


def _with(view: DataView, split: SplitView) -> DataView:
    splits = tuple(split if each.name == split.name else each for each in view.splits)
    return replace(view, splits=splits)


def _found_lines(split: SplitView, folder: Path) -> Iterator[SplitView]:
    from mlxft.data.index import LineIndex

    if not split.path.exists():
        yield replace(split, problem=_missing(split, folder))
        return
    try:
        index = LineIndex(split.path)
    except DataError as error:
        yield replace(split, problem=str(error))
        return
    if not index.size:
        yield replace(
            split, problem=f"{split.path} is empty; write one JSON record a line into it."
        )
    for _ in index.build():
        yield replace(split, index=index, lines=len(index))


def _missing(split: SplitView, folder: Path) -> str:
    from mlxft.data.dataset import require_trainable
    from mlxft.recipe import Recipe

    if split.name == "train" or not folder.is_dir():
        try:
            require_trainable(folder, Recipe())
        except DataError as error:
            return str(error)
    use = {"valid": "the run goes without validation", "test": "nothing needs it for training"}
    return f"There is no {split.path.name} in {folder}; {use[split.name]}."


def _with_overlap(view: DataView) -> DataView:
    from mlxft.data.statistics import overlap

    train = view.split("train").statistics
    for split in view.splits:
        if train and split.statistics and split.name != "train":
            view = _with(view, replace(split, shared=overlap(train, split.statistics)))
    return view


def _checked(
    split: SplitView, tell: Callable[[SplitView], object], left: Callable[[], bool]
) -> SplitView:
    """The file with its faults and figures; meaningless once `left`."""
    from mlxft.data.statistics import statistics

    checking = _Checking(split, tell, left)
    figures = statistics(checking)
    return replace(checking.split(), statistics=figures)


class _Checking:
    """A file's lines one by one, with their faults kept and the progress told."""

    def __init__(
        self, split: SplitView, tell: Callable[[SplitView], object], left: Callable[[], bool]
    ) -> None:
        self._split = split
        self._tell = tell
        self._left = left
        self._read = 0
        self._faults: list[Fault] = []
        self._fault_count = 0

    def __iter__(self) -> Iterator[Line]:
        from mlxft.data.validation import scan

        told = time.monotonic()
        for line in scan(self._split.path):
            self._read = line.number
            self._fault_count += len(line.faults)
            self._faults.extend(line.faults[: MOST_FAULTS - len(self._faults)])
            yield line
            if line.number % BREATH_LINES == 0:
                time.sleep(BREATH_SECONDS)
                if self._left():
                    return
                if time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    self._tell(self.split())

    def split(self) -> SplitView:
        """The file with what is known so far."""
        return replace(
            self._split,
            read=self._read,
            faults=tuple(self._faults),
            fault_count=self._fault_count,
        )

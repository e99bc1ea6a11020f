"""Split a dataset into train, valid and test: seeded, stratified by file, duplicates together.

The application runs it in a child process: `python -m` this module.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlxft.data.child_process import serve
from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.containers import as_lines, atomic_write
from mlxft.data.formats import identity
from mlxft.data.near_duplicates import near_pairs
from mlxft.data.packed_records import RecordPacker
from mlxft.data.split_files import SplitName
from mlxft.data.statistics import Fingerprints
from mlxft.data.validation import scan
from mlxft.errors import DataError, MlxftError, StorageError


@dataclass(frozen=True)
class Shares:
    """Shares of the dataset that are held out; the rest is trained."""

    valid: float
    test: float

    def __post_init__(self) -> None:
        if not (0 <= self.valid < 1 and 0 <= self.test < 1 and self.valid + self.test < 1):
            raise DataError(
                f"The shares {self.valid:g} and {self.test:g} leave nothing to train; use two "
                "numbers of at least 0 that add up to less than 1."
            )


@dataclass(frozen=True)
class SplitResult:
    """The number of records in each file written, and of faulty lines skipped."""

    records: dict[SplitName, int]
    faulty: int


KEPT_TOGETHER: Final = 22
"""Equal bins of records that are kept together: fewer than for near duplicates, since sketches are
estimates and keeping too many together does no harm."""


class SplitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `split`, for the child process."""

    files: tuple[str, ...]
    folder: str
    valid: float
    test: float
    seed: int
    columns: dict[str, str] = {}


class SplitReply(msgspec.Struct, frozen=True):
    """The result of a split, or why it failed."""

    result: SplitResult | None = None
    error: str = ""


def split(
    files: Sequence[Path], folder: Path, shares: Shares, seed: int, columns: Columns = AS_NAMED
) -> SplitResult:
    """Write the records of these files as train, valid and test into a folder.

    Lines are copied unchanged. Raises `DataError` if a file can't be read or holds no record, and
    `StorageError` rather than overwrite a file.
    """
    for file in files:
        _refuse_unreadable(file, columns)
    targets = {name: folder / f"{name}.jsonl" for name in _wanted(shares)}
    for target in targets.values():
        if target.exists():
            raise StorageError(f"{target}: this file already exists; choose another --out.")
    prints, packer, owners, faulty = Fingerprints(), RecordPacker(), list[int](), 0
    for owner, file in enumerate(files):
        for line in scan(file, columns):
            if line.fields is None or line.faults:
                faulty += 1
                continue
            packer.add(line.number, identity(line.fields))
            owners.append(owner)
            if packer.full:
                prints.add(packer.take())
    prints.add(packer.take())
    if not owners:
        raise DataError(f"{files[0]}: no record can be trained; see mlxft-tui check-data.")
    groups = _groups(prints)
    chosen = _chosen(groups, np.array(owners), shares, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(files, np.array(owners), prints, chosen, targets)
    except OSError as error:
        raise StorageError(f"{folder}: the files can't be written ({error.strerror}).") from None
    return SplitResult({name: int((chosen == _CODES[name]).sum()) for name in targets}, faulty)


def _refuse_unreadable(file: Path, columns: Columns) -> None:
    first = next(scan(file, columns))
    if first.number == 0:
        raise DataError(str(first.faults[0]))


_CODES: Final[dict[SplitName, int]] = {name: at for at, name in enumerate(get_args(SplitName))}


_HELD_OUT: Final[tuple[SplitName, ...]] = ("valid", "test")


def _wanted(shares: Shares) -> Iterator[SplitName]:
    yield "train"
    if shares.valid:
        yield "valid"
    if shares.test:
        yield "test"


def _groups(prints: Fingerprints) -> NDArray[np.int64]:
    """A group number for each record; equal for exact and near duplicates."""
    _, first, which = np.unique(prints.digests, return_index=True, return_inverse=True)
    # In the order of the file, since Python's hashes differ between processes.
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    leaders = rank[which]
    # Of exact duplicates only the first is compared with others.
    repeated = np.ones(len(leaders), bool)
    repeated[first] = False
    parents = list(range(len(first)))
    for pairs in near_pairs(prints.sketches, repeated, KEPT_TOGETHER):
        for a, b in zip(leaders[pairs.first].tolist(), leaders[pairs.second].tolist(), strict=True):
            _join(parents, a, b)
    roots = np.array([_root(parents, each) for each in range(len(parents))], np.int64)
    found: NDArray[np.int64] = roots[leaders]
    return found


def _root(parents: list[int], each: int) -> int:
    while parents[each] != each:
        parents[each] = parents[parents[each]]
        each = parents[each]
    return each


def _join(parents: list[int], a: int, b: int) -> None:
    parents[_root(parents, b)] = _root(parents, a)


def _chosen(
    groups: NDArray[np.int64], owners: NDArray[np.int64], shares: Shares, seed: int
) -> NDArray[np.int8]:
    """The split of each record: whole groups in random order, until each file's share is full.

    A group counts towards the file of its first record.
    """
    chosen = np.zeros(len(groups), np.int8)
    first = np.unique(groups, return_index=True)[1]
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    by_owner: dict[int, list[NDArray[np.int64]]] = {}
    for begin, group in zip(first.tolist(), members, strict=True):
        by_owner.setdefault(int(owners[begin]), []).append(group)
    for owner in sorted(by_owner):
        random.Random(f"{seed} {owner}").shuffle(by_owner[owner])
        count = int((owners == owner).sum())
        valid, test = round(shares.valid * count), round(shares.test * count)
        remaining: dict[SplitName, int] = {"valid": valid, "test": test, "train": count}
        for group in by_owner[owner]:
            fitting = (name for name in _HELD_OUT if len(group) <= remaining[name])
            name: SplitName = next(fitting, "train")
            chosen[group] = _CODES[name]
            remaining[name] -= len(group)
    return chosen


def _write(
    files: Sequence[Path],
    owners: NDArray[np.int64],
    prints: Fingerprints,
    chosen: NDArray[np.int8],
    targets: dict[SplitName, Path],
) -> None:
    """Write each line to the file of its split, in order."""
    lines = prints.lines
    for name, target in targets.items():
        with atomic_write(target) as out:
            for owner, file in enumerate(files):
                wanted = set(lines[(owners == owner) & (chosen == _CODES[name])].tolist())
                with as_lines(file).open("rb") as source:
                    for number, raw in enumerate(source, 1):
                        if number in wanted:
                            out.write(raw if raw.endswith(b"\n") else raw + b"\n")


def main() -> None:
    """Make the requested files and send the result."""
    serve(SplitRequest, _split_requested)


def _split_requested(request: SplitRequest, send: Callable[[SplitReply], object]) -> None:
    files = [Path(each) for each in request.files]
    try:
        shares = Shares(request.valid, request.test)
        done = split(files, Path(request.folder), shares, request.seed, request.columns)
    except MlxftError as error:
        send(SplitReply(error=str(error)))
    else:
        send(SplitReply(done))


if __name__ == "__main__":
    main()

"""One set made into train, valid and test: by a seed, each file in its share, no likes apart.

For a viewer a process does it: `python -m` this module, since it holds the interpreter.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.containers import as_lines, written
from mlxft.data.dataset import SplitName
from mlxft.data.near_duplicates import near_pairs
from mlxft.data.statistics import Fingerprints, identity
from mlxft.data.validation import scan
from mlxft.errors import DataError, MlxftError, StorageError


@dataclass(frozen=True)
class Shares:
    """Parts of the whole that are held out; the rest is trained."""

    valid: float
    test: float

    def __post_init__(self) -> None:
        if not (0 <= self.valid < 1 and 0 <= self.test < 1 and self.valid + self.test < 1):
            raise DataError(
                f"The shares {self.valid:g} and {self.test:g} leave nothing to train; give two "
                "that are 0 or more and together less than 1."
            )


@dataclass(frozen=True)
class Made:
    """The files written, with their records, and the lines left out for their faults."""

    records: dict[SplitName, int]
    faulty: int


KEPT_TOGETHER: Final = 22
"""Bins that records kept together share: fewer than near duplicates do, since a sketch is a guess
and keeping too many together does no harm."""


class Order(msgspec.Struct, frozen=True):
    """What `split` is to make, for the process that does it."""

    files: tuple[str, ...]
    folder: str
    valid: float
    test: float
    seed: int
    columns: dict[str, str] = {}


class Outcome(msgspec.Struct, frozen=True):
    """What became of an order: the files that were made, or why there are none."""

    made: Made | None = None
    refusal: str = ""


def split(
    files: Sequence[Path], folder: Path, shares: Shares, seed: int, columns: Columns = AS_NAMED
) -> Made:
    """Write the records of these files as train, valid and test into a folder.

    Records are written as they stand, whole lines. Raises `DataError` where a file can't be read
    or none holds a record, and `StorageError` rather than overwrite.
    """
    targets = {name: folder / f"{name}.jsonl" for name in _wanted(shares)}
    for target in targets.values():
        if target.exists():
            raise StorageError(f"{target}: this file is there already; choose another --out.")
    prints, owners, faulty = Fingerprints(), list[int](), 0
    for owner, file in enumerate(files):
        for line in scan(file, columns):
            if line.number == 0:
                raise DataError(str(line.faults[0]))
            if line.fields is None or line.faults:
                faulty += 1
                continue
            prints.add(line.number, identity(line.fields))
            owners.append(owner)
    if not owners:
        raise DataError(f"{files[0]}: no record can be trained; see mlxft-tui check-data.")
    groups = _groups(prints)
    chosen = _chosen(groups, np.array(owners), shares, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(files, np.array(owners), prints, chosen, targets)
    except OSError as error:
        raise StorageError(f"{folder}: the files can't be written ({error.strerror}).") from None
    return Made({name: int((chosen == _CODES[name]).sum()) for name in targets}, faulty)


_CODES: Final[dict[SplitName, int]] = {name: at for at, name in enumerate(get_args(SplitName))}


_HELD_OUT: Final[tuple[SplitName, ...]] = ("valid", "test")


def _wanted(shares: Shares) -> Iterator[SplitName]:
    yield "train"
    if shares.valid:
        yield "valid"
    if shares.test:
        yield "test"


def _groups(prints: Fingerprints) -> NDArray[np.int64]:
    """A number for each record; the same for records that are, or nearly are, the same."""
    leaders = np.unique(prints.digests, return_inverse=True)[1].astype(np.int64)
    # Equal records are one; of them only the first is compared with others.
    first = np.unique(leaders, return_index=True)[1]
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
    """The split of each record: whole groups in a random order, until each file's share is full.

    A group counts for the file of its first record.
    """
    chosen = np.zeros(len(groups), np.int8)
    first = np.unique(groups, return_index=True)[1]
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    by_owner: dict[int, list[NDArray[np.int64]]] = {}
    for begin, group in zip(first.tolist(), members, strict=True):
        by_owner.setdefault(int(owners[begin]), []).append(group)
    for owner in sorted(by_owner):
        drawn = random.Random(f"{seed} {owner}")
        drawn.shuffle(by_owner[owner])
        count = int((owners == owner).sum())
        valid, test = round(shares.valid * count), round(shares.test * count)
        left: dict[SplitName, int] = {"valid": valid, "test": test, "train": count}
        for group in by_owner[owner]:
            fitting = (name for name in _HELD_OUT if len(group) <= left[name])
            name: SplitName = next(fitting, "train")
            chosen[group] = _CODES[name]
            left[name] -= len(group)
    return chosen


def _write(
    files: Sequence[Path],
    owners: NDArray[np.int64],
    prints: Fingerprints,
    chosen: NDArray[np.int8],
    targets: dict[SplitName, Path],
) -> None:
    """The lines of the files, each into the file of its split, in their order."""
    lines = prints.lines
    for name, target in targets.items():
        with written(target) as out:
            for owner, file in enumerate(files):
                wanted = set(lines[(owners == owner) & (chosen == _CODES[name])].tolist())
                with as_lines(file).open("rb") as source:
                    for number, raw in enumerate(source, 1):
                        if number in wanted:
                            out.write(raw if raw.endswith(b"\n") else raw + b"\n")


def main() -> None:
    """Follow the order that stdin holds; stdout gets its outcome."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    os.nice(5)  # The viewer's keys come first.
    files = [Path(each) for each in order.files]
    try:
        shares = Shares(order.valid, order.test)
        made = split(files, Path(order.folder), shares, order.seed, order.columns)
    except MlxftError as error:
        outcome = Outcome(refusal=str(error))
    else:
        outcome = Outcome(made)
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()

"""A project's data folder as the trainer takes it: whole splits, or a sentence why not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.printable import printable_line
from mlxft.data.validation import Fault, mask_problem, scan
from mlxft.errors import DataError
from mlxft.recipe import Recipe

SplitName = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Record:
    """A record and the line it stands on, from 1."""

    line: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Split:
    """One file of a data folder; `records` holds the faultless ones in file order."""

    name: SplitName
    path: Path
    records: tuple[Record, ...]
    faults: tuple[Fault, ...]


def split_file(folder: Path, name: SplitName) -> Path:
    """Where a split is kept."""
    return folder / f"{name}.jsonl"


def load_split(folder: Path, name: SplitName, columns: Columns = AS_NAMED) -> Split:
    """Read a split whole; valid and test may be missing and are then empty."""
    path = split_file(folder, name)
    if name != "train" and not path.exists():
        return Split(name, path, (), ())
    records: list[Record] = []
    faults: list[Fault] = []
    for line in scan(path, columns):
        faults.extend(line.faults)
        if line.fields is not None and not line.faults:
            records.append(Record(line.number, line.fields))
    return Split(name, path, tuple(records), tuple(faults))


def require_trainable(folder: Path, recipe: Recipe) -> tuple[Split, Split]:
    """The train and valid splits, fit for the recipe.

    Raises `DataError` naming the first fault's file, line and remedy and how many more there are.
    """
    _require_train_file(folder)
    train = load_split(folder, "train", recipe.columns)
    valid = load_split(folder, "valid", recipe.columns)
    for split in (train, valid):
        _refuse_faults(split.faults)
        if recipe.mask_prompt:
            _refuse_faults(_mask_faults(split))
    _refuse_too_few(train, recipe.batch_size)
    return train, valid


def _require_train_file(folder: Path) -> None:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        raise DataError(f"{folder}: this folder doesn't exist; {_WHAT_DATA_IS}") from None
    except NotADirectoryError:
        raise DataError(f"{folder}: this is a file, not a folder; {_WHAT_DATA_IS}") from None
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise DataError(f"{folder}: the folder can't be read ({reason}).") from None
    if "train.jsonl" in names:
        return
    others = ", ".join(sorted(name for name in names if name.endswith(".jsonl"))[:3])
    remedy = (
        f"rename the one to train on ({others}) to that"
        if others
        else "put the records there, one JSON object a line"
    )
    raise DataError(printable_line(f"{folder}: there is no train.jsonl; {remedy}."))


_WHAT_DATA_IS: Final = "set data to the folder that holds train.jsonl."


def _mask_faults(split: Split) -> tuple[Fault, ...]:
    found = ((record.line, mask_problem(record.fields)) for record in split.records)
    return tuple(problem.at(str(split.path), line) for line, problem in found if problem)


def _refuse_faults(faults: tuple[Fault, ...]) -> None:
    if not faults:
        return
    rest = len(faults) - 1
    more = f" ({rest} more {'fault' if rest == 1 else 'faults'} in this file)" if rest else ""
    raise DataError(f"{str(faults[0]).removesuffix('.')}{more}.")


def _refuse_too_few(train: Split, batch_size: int) -> None:
    count = len(train.records)
    if count < batch_size:
        records = "1 record is" if count == 1 else f"{count} records are"
        raise DataError(
            f"{train.path}: {records} too few for a batch of {batch_size}; "
            f"add records or set batch_size to {count}."
        )

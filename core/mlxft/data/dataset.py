"""Load a project's data folder for training: whole splits, or an error that says why not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.containers import COMPRESSED, KINDS, kind_of
from mlxft.data.faults import Fault
from mlxft.data.record_checks import mask_problem
from mlxft.data.record_warnings import CountedProblems
from mlxft.data.validation import scan
from mlxft.errors import DataError
from mlxft.recipe import Recipe, too_few_records
from mlxft.text.printable import printable_line

SplitName = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Record:
    """A record and its line, counted from 1."""

    line: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Split:
    """One file of a data folder; `records` holds the valid ones in file order."""

    name: SplitName
    path: Path
    records: tuple[Record, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...] = ()
    """What valid records lose, or why they aren't trained; the first of each kind."""


_NAMES: Final[dict[SplitName, tuple[str, ...]]] = {
    "train": ("train",),
    "valid": ("valid", "validation", "dev"),
    "test": ("test",),
}
_PART: Final = r"(-00000-of-\d{5})?"
"""What the Hugging Face Hub appends to the name of a split's first file."""


def split_file(folder: Path, name: SplitName) -> Path:
    """The file of a split: JSON Lines if there is one, else a file of another kind.

    If `folder` is a file, it is the training set. If no file is named after a split, all files are
    the training set and the folder stands for them. The first shard stands for all shards.
    """
    if name == "train" and folder.is_file():
        return folder
    plain = folder / f"{name}.jsonl"
    if plain.exists():
        return plain
    names = _names_in(folder)
    found = next(_likely(names, _NAMES[name]), None)
    if found is None and name == "train" and names:
        if any(_likely(names, [each for group in _NAMES.values() for each in group])):
            return plain
        return folder if len(names) > 1 else folder / names[0]
    return folder / found if found else plain


def _names_in(folder: Path) -> list[str]:
    """The names of the record files in a folder."""
    try:
        found = sorted(os.listdir(folder))
    except OSError:
        return []
    return [each for each in found if kind_of(Path(each)) and not each.startswith(".")]


def _likely(names: Sequence[str], stems: Sequence[str]) -> Iterator[str]:
    """The names of files that may hold a split, the most likely first."""
    for stem, kind, packed in product(stems, KINDS, ("", *COMPRESSED)):
        wanted = re.compile(re.escape(stem) + _PART + re.escape(kind + packed), re.IGNORECASE)
        yield from filter(wanted.fullmatch, names)


def load_split(folder: Path, name: SplitName, columns: Columns = AS_NAMED) -> Split:
    """Read a whole split; a missing valid or test split is empty."""
    path = split_file(folder, name)
    if name != "train" and not path.exists():
        return Split(name, path, (), ())
    records: list[Record] = []
    faults: list[Fault] = []
    warnings = CountedProblems()
    for line in scan(path, columns):
        faults.extend(line.faults)
        warnings.add(line.number, [line.excluded] if line.excluded else line.warnings)
        if line.trained is not None:
            records.append(Record(line.number, line.trained))
    counted = tuple(each.at(str(path)) for each in warnings.found())
    return Split(name, path, tuple(records), tuple(faults), counted)


def require_trainable(folder: Path, recipe: Recipe) -> tuple[Split, Split]:
    """The train and valid splits, skipping faulty records if the recipe says so.

    Raises `DataError` with the first fault and the number of others if the recipe refuses faulty
    records or none are left to train.
    """
    _require_train_file(folder)
    train, valid = (_fit(folder, name, recipe) for name in _TRAINED)
    _refuse_too_few(train, recipe.batch_size)
    return train, valid


_TRAINED: Final[tuple[SplitName, ...]] = ("train", "valid")


def _fit(folder: Path, name: SplitName, recipe: Recipe) -> Split:
    """A split without faulty records. Raises `DataError` as `require_trainable` does."""
    split = load_split(folder, name, recipe.columns)
    masking = _mask_faults(split) if recipe.mask_prompt else ()
    faults = (*split.faults, *masking)
    whole = any(fault.line is None for fault in faults)
    unmasked = {fault.line for fault in masking}
    kept = tuple(record for record in split.records if record.line not in unmasked)
    if recipe.faulty_records == "refuse" or whole or (faults and not kept):
        _refuse_faults(faults)
    return replace(split, records=kept, faults=faults)


def skipped_note(split: Split) -> str | None:
    """How many faulty records of a split are skipped, and the first fault; None for none."""
    lines = {fault.line for fault in split.faults}
    if not lines:
        return None
    records = "record" if len(lines) == 1 else "records"
    return f"{split.path}: skipping {len(lines)} faulty {records}; first: {split.faults[0]}"


def _require_train_file(folder: Path) -> None:
    if folder.is_file():
        return
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        raise DataError(f"{folder}: this folder doesn't exist; {_WHAT_DATA_IS}") from None
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise DataError(f"{folder}: the folder can't be read ({reason}).") from None
    if split_file(folder, "train").exists():
        return
    others = ", ".join(sorted(name for name in names if kind_of(Path(name)))[:3])
    remedy = (
        f"rename the one to train on ({others}) to that, or set data to it"
        if others
        else "put the records there, one JSON object per line"
    )
    raise DataError(printable_line(f"{folder}: there is no train.jsonl; {remedy}."))


_WHAT_DATA_IS: Final = "set data to the folder that holds train.jsonl, or to a file of records."


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
    if reason := too_few_records(count, batch_size):
        faults = f" {note}" if (note := skipped_note(train)) else ""
        raise DataError(
            f"{train.path}: {reason}; add records or set batch_size to {count}.{faults}"
        )

"""Load a project's data folder for training: whole splits, or an error that says why not."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mlxft.data.columns import AS_NAMED, Columns
from mlxft.data.compared import answered, refuse_combination
from mlxft.data.containers import exists
from mlxft.data.faults import Fault, Problem
from mlxft.data.record_checks import mask_problem
from mlxft.data.record_warnings import CountedProblems
from mlxft.data.split_files import SplitName, kind_of, split_file
from mlxft.data.validation import scan
from mlxft.errors import DataError
from mlxft.recipe import Recipe, TrainingLoss, batch_size_for, too_few_records
from mlxft.text.printable import printable_line


@dataclass(frozen=True)
class Record:
    """A record and its line, counted from 1.

    `rejected` is the same with the rejected answer, `is_good` whether its answer is one to learn,
    where the loss compares answers.
    """

    line: int
    fields: dict[str, Any]
    rejected: dict[str, Any] | None = None
    is_good: bool = True


@dataclass(frozen=True)
class Split:
    """One file of a data folder; `records` holds the valid ones in file order."""

    name: SplitName
    path: Path
    records: tuple[Record, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...] = ()
    """What valid records lose, or why they aren't trained; the first of each kind."""


def load_split(
    folder: Path, name: SplitName, columns: Columns = AS_NAMED, loss: TrainingLoss = "sft"
) -> Split:
    """Read a whole split as a loss takes it; a missing valid or test split is empty."""
    path = split_file(folder, name)
    if name != "train" and not exists(path):
        return Split(name, path, (), ())
    records: list[Record] = []
    faults: list[Fault] = []
    warnings = CountedProblems()
    for line in scan(path, columns):
        faults.extend(line.faults)
        found = answered(line, loss)
        if isinstance(found, Problem):
            faults.append(found.at(str(path), line.number))
            continue
        excluded = [line.excluded] if line.excluded and not found else line.warnings
        warnings.add(line.number, excluded)
        records += (Record(line.number, each.fields, each.rejected, each.is_good) for each in found)
    counted = tuple(each.at(str(path)) for each in warnings.found())
    return Split(name, path, tuple(records), tuple(faults), counted)


def require_trainable(folder: Path, recipe: Recipe) -> tuple[Split, Split]:
    """The train and valid splits, skipping faulty records if the recipe says so.

    Raises `DataError` with the first fault and the number of others if the recipe refuses faulty
    records, or if nothing is left to train, as far as tokens were measured before;
    `RecipeError` for settings that don't suit its loss.
    """
    refuse_combination(recipe)
    _require_train_file(folder)
    train, valid = (_fit(folder, name, recipe) for name in _TRAINED)
    _refuse_too_few(train, recipe.batch_size)
    # Loads NumPy, which quick commands do without.
    from mlxft.data.token_cache import kept_figures

    measured = kept_figures(train.path, recipe)
    if measured is not None and measured.trains_nothing:
        raise nothing_trained(train.path, recipe)
    return train, valid


def nothing_trained(path: Path, recipe: Recipe) -> DataError:
    """The error of a training set none of whose tokens is trained."""
    remedy = "check the weights of its records and answers"
    if recipe.train_on != "everything":
        remedy = "raise it or set train_on to everything"
    return DataError(
        f"{path}: no record has a token to train within max_seq_length {recipe.max_seq_length}; "
        f"{remedy}."
    )


_TRAINED: Final[tuple[SplitName, ...]] = ("train", "valid")


def _fit(folder: Path, name: SplitName, recipe: Recipe) -> Split:
    """A split without faulty records. Raises `DataError` as `require_trainable` does."""
    split = load_split(folder, name, recipe.columns, recipe.loss)
    masks = recipe.train_on != "everything" and recipe.loss == "sft"
    masking = _mask_faults(split) if masks else ()
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
    if exists(split_file(folder, "train")):
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
        remedy = f"set batch_size to {batch_size_for(count)}" if count else "let some be trained"
        raise DataError(f"{train.path}: {reason}; add records or {remedy}.{faults}")

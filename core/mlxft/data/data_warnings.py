"""Warnings about records that can be trained but probably shouldn't be as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mlxft.data.checking import Report
from mlxft.data.containers import has_lines, locator
from mlxft.data.faults import Fault, Problem
from mlxft.data.split_files import SplitName
from mlxft.recipe import FEW_RECORDS, batch_size_for, too_few_records

MIN_EVAL_RECORDS: Final = 20
"""Records a validation set should have: with fewer its loss is mostly noise."""


def data_warnings(report: Report) -> Iterator[Fault]:
    """Losses of records, duplicates, contradictions, what is also in train, and secrets."""
    found = report.statistics
    if found is None:
        return
    here = _where(Path(report.path))
    for each in found.warnings:
        yield each.at(report.path)
    for secret in found.secrets:
        what = f"the record seems to contain {secret.what}"
        yield _at(report, secret.line, Problem("secret", what, "remove and revoke it"))
    for line in report.shared:
        yield _at(report, line, Problem("in train", "the record is also in train", _FROM_TRAIN))
    in_train = _where(Path(report.train))
    for double in report.prompts_shared:
        what = (
            f"the record answers the prompt of {in_train(double.first_line)} of train differently"
        )
        yield _at(report, double.line, Problem("in train", what, _FROM_TRAIN))
    for near in report.near_shared:
        what = f"the record is nearly the same as {in_train(near.first_line)} of train"
        yield _at(report, near.line, Problem("in train", what, _FROM_TRAIN))
    for double in found.duplicates:
        what = f"the record repeats {here(double.first_line)}"
        yield _at(report, double.line, Problem("duplicate", what, _REPEATED))
    for double in found.contradictions:
        what = f"the record answers the prompt of {here(double.first_line)} differently"
        yield _at(report, double.line, Problem("contradiction", what, _CONTRADICTED))
    for double in found.near_duplicates:
        what = f"the record is nearly the same as {here(double.first_line)}"
        yield _at(report, double.line, Problem("near duplicate", what, _REPEATED))


def _where(path: Path) -> Callable[[int], str]:
    """How to name a line of a dataset: with its file if it has several."""
    located = locator(path)

    def named(line: int) -> str:
        file, number = located(line)
        unit = f"{'line' if has_lines(file) else 'record'} {number}"
        return unit if file.name == path.name else f"{file.name} {unit}"

    return named


_REPEATED: Final = "remove it unless it should count twice"
_CONTRADICTED: Final = "keep the right answer, unless both are right"
_FROM_TRAIN: Final = "remove it from one of them, so that the loss is on unseen records"


def _at(report: Report, line: int, problem: Problem) -> Fault:
    return problem.at(report.path, line)


def too_few(path: Path, use: SplitName, records: int, batch_size: int) -> Iterator[Fault]:
    """Whether a file has too few records for its use; an empty file has faults instead."""
    if not records:
        return
    if use == "train" and (what := too_few_records(records, batch_size)):
        remedy = f"add records or set batch_size to {batch_size_for(records)}"
        yield Problem("too few", what, remedy).at(str(path), None)
    elif use == "train" and records < FEW_RECORDS:
        what = f"{_records(records)} few to learn from"
        remedy = f"add more, {FEW_RECORDS} or several times that"
        yield Problem("too few", what, remedy).at(str(path), None)
    elif use != "train" and records < MIN_EVAL_RECORDS:
        what = f"{_records(records)} too few to evaluate a run"
        remedy = f"split the data again with {MIN_EVAL_RECORDS} or more here"
        yield Problem("too few", what, remedy).at(str(path), None)


def _records(count: int) -> str:
    return "1 record is" if count == 1 else f"{count} records are"

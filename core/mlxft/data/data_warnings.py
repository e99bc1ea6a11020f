"""What is doubtful in a checked file though it can be trained, each with its place and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlxft.data.checking import Report
from mlxft.data.dataset import SplitName
from mlxft.data.validation import Fault, Problem
from mlxft.recipe import too_few_records

FEWEST_JUDGES: Final = 20
"""Records that a validation set should have: with fewer its loss is mostly chance."""


def doubts(report: Report) -> Iterator[Fault]:
    """Repeated and nearly repeated records, those that are in train too, and secrets."""
    found = report.statistics
    if found is None:
        return
    for secret in found.secrets:
        what = f"the record holds what looks like {secret.what}"
        yield _at(report, secret.line, Problem("secret", what, "take it out and revoke it"))
    for line in report.shared:
        yield _at(report, line, Problem("in train", "the record is in train too", _FROM_TRAIN))
    for near in report.near_shared:
        what = f"the record is nearly that of line {near.first_line} of train"
        yield _at(report, near.line, Problem("in train", what, _FROM_TRAIN))
    for double in found.duplicates:
        what = f"the record repeats line {double.first_line}"
        yield _at(report, double.line, Problem("duplicate", what, _REPEATED))
    for double in found.near_duplicates:
        what = f"the record is nearly that of line {double.first_line}"
        yield _at(report, double.line, Problem("near duplicate", what, _REPEATED))


_REPEATED: Final = "remove it, or keep it if it shall count twice"
_FROM_TRAIN: Final = "remove it from one of them, so that the loss is of unseen records"


def _at(report: Report, line: int, problem: Problem) -> Fault:
    return problem.at(report.path, line)


def too_few(path: Path, use: SplitName, records: int, batch_size: int) -> Iterator[Fault]:
    """Whether a file has fewer records than its use needs; of one without any its faults tell."""
    if not records:
        return
    if use == "train" and (what := too_few_records(records, batch_size)):
        remedy = f"add records or set batch_size to {records}"
        yield Problem("too few", what, remedy).at(str(path), None)
    elif use != "train" and records < FEWEST_JUDGES:
        what = f"{_records(records)} too few to judge a run by"
        remedy = f"split the data anew, so that it has {FEWEST_JUDGES} or more"
        yield Problem("too few", what, remedy).at(str(path), None)


def _records(count: int) -> str:
    return "1 record is" if count == 1 else f"{count} records are"

"""`check-data` and `split-data`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from mlxft import recipe as recipes
from mlxft.data.checking import Report, check
from mlxft.data.compared import unsuited
from mlxft.data.containers import exists, parts_of, place
from mlxft.data.data_warnings import data_warnings, too_few
from mlxft.data.faults import Fault
from mlxft.data.hub import fetched, is_hub_id
from mlxft.data.split_files import SplitName, split_file
from mlxft.data.splitting import Shares, split
from mlxft.engine.protocol import AnyReply, MeasureTokens, OpenModel, TokensMeasured
from mlxft.errors import DataError
from mlxft.recipe import Recipe
from mlxft.text import figures
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.session import Session

if TYPE_CHECKING:
    from mlxft.data.token_figures import TokenFigures

MOST_SHOWN = 5
"""Faults of one kind printed per file; the rest are counted. JSON lists them all."""


@dataclass(frozen=True)
class Checked:
    """A file's report, its warnings, and with a model its token figures."""

    report: Report
    warnings: tuple[Fault, ...]
    tokens: TokenFigures | None

    @property
    def all_warnings(self) -> tuple[Fault, ...]:
        """The file's warnings and the model's, under the file's name as the user wrote it."""
        of_model = self.tokens.warnings if self.tokens else ()
        return (*self.warnings, *(replace(each, file=self.report.path) for each in of_model))

    @property
    def has_untrainable(self) -> bool:
        """Whether a record can't be trained: it has a fault, or the chat template rejects it."""
        refused = self.tokens.refused if self.tokens else 0
        return bool(self.report.fault_count or refused)


def check_data(session: Session, where: str, model: str | None, *, as_json: bool) -> int:
    """Print faults and warnings of a file, a folder or a hub dataset; returns 1 for faults.

    With a model, records also pass its chat template and tokenizer. Raises `DataError`, and
    `EngineError` where the model can't be opened.
    """
    recipe = recipes.replace(session.saved_recipe(), "model", model or "")
    in_project = session.folder / Path(where).expanduser()
    if in_project.exists() and not Path(where).expanduser().exists():
        where = str(in_project)
    found = files_of(where)
    uses = {str(path): use for use, path in found.items()}
    paths = tuple(found.values())
    reports: dict[str, Report] = {}

    def take(report: Report) -> None:
        reports[report.path] = report

    check(paths, recipe.columns, take, lambda: True)
    checked = [
        Checked(
            report,
            (
                *_unsuited(report, recipe),
                *data_warnings(report),
                *_few(report, uses.get(report.path), recipe),
            ),
            _measured(session, report, recipe) if model else None,
        )
        for report in reports.values()
    ]
    if as_json:
        print(json.dumps({"files": [_as_json(each) for each in checked]}))
    else:
        for each in checked:
            print("\n".join(_lines(each)))
        print(_verdict(checked))
    return 1 if any(each.has_untrainable for each in checked) else 0


def split_data(
    session: Session, files: Sequence[str], folder: Path, shares: Shares, seed: int
) -> int:
    """Split files into train, valid and test, and print what was written.

    Raises `DataError`, and `StorageError` instead of overwriting a file.
    """
    paths = [part for each in files for path in files_of(each).values() for part in parts_of(path)]
    made = split(paths, folder, shares, seed, session.saved_recipe().columns)
    for name, count in made.records.items():
        print(f"{folder / name}.jsonl: {_counted(count, 'record')}")
    if made.faulty:
        print(f"{_counted(made.faulty, 'faulty line')} left out; see mlxft-tui check-data")
    return 0


def files_of(where: str) -> dict[SplitName, Path]:
    """The record files of a path or hub id by split; a single file is the training split.

    Raises `DataError` where there is none.
    """
    path = fetched(where) if is_hub_id(where, Path()) else Path(where).expanduser()
    if not path.is_dir():
        return {"train": path}
    names: tuple[SplitName, ...] = get_args(SplitName)
    splits = {name: split_file(path, name) for name in names}
    found = {name: file for name, file in splits.items() if exists(file)}
    if not found:
        raise DataError(f"{path}: this folder has no record files; name a file or another folder.")
    return found


def _few(report: Report, use: SplitName | None, recipe: Recipe) -> Iterator[Fault]:
    """A warning if the file is too small for its split."""
    if use is not None and report.statistics is not None:
        yield from too_few(Path(report.path), use, report.statistics.records, recipe.batch_size)


def _unsuited(report: Report, recipe: Recipe) -> Iterator[Fault]:
    """A warning if records can't be trained with the recipe's loss."""
    formats = report.statistics.formats if report.statistics else {}
    if found := unsuited(formats, recipe.loss):
        yield found.at(report.path, None)


def _measured(session: Session, report: Report, recipe: Recipe) -> TokenFigures | None:
    """The file's token figures with the model's template and tokenizer; None without records."""
    if report.statistics is None or not report.statistics.records:
        return None
    last: list[TokenFigures] = []

    def take(reply: AnyReply) -> None:
        if isinstance(reply, TokensMeasured):
            last[:] = [reply.figures]

    opening = OpenModel(recipe.model, recipe.trust_remote_code)
    path = str(Path(report.path).resolve())
    run_on_service(session, opening, MeasureTokens(path, recipe), take)
    return last[0] if last else None


def _as_json(checked: Checked) -> dict[str, Any]:
    report, tokens = checked.report, checked.tokens
    return {
        "path": report.path,
        "lines": report.read,
        "faults": [_placed(each) for each in report.faults],
        "fault_count": report.fault_count,
        "warnings": [_placed(each) for each in checked.all_warnings],
        "statistics": _counts(report),
        "tokens": {
            name: value
            for name, value in msgspec.to_builtins(tokens).items()
            if name not in ("warnings", "bins")
        }
        if tokens
        else None,
    }


def _placed(fault: Fault) -> dict[str, Any]:
    """A fault with the file it is in: a folder's records count as one file until here."""
    found: dict[str, Any] = msgspec.to_builtins(fault)
    if fault.line is not None:
        file, line = place(Path(fault.file), fault.line)
        found |= {"file": str(file), "line": line}
    return found


def _counts(report: Report) -> dict[str, Any]:
    found = report.statistics
    if found is None:
        return {}
    return {
        "records": found.records,
        "formats": found.formats,
        "characters": msgspec.to_builtins(found.lengths),
        "duplicates": found.duplicate_count,
        "near_duplicates": found.near_count,
        "contradictions": found.contradiction_count,
        "in_train": len(report.shared) + len(report.near_shared),
        "prompts_in_train": len(report.prompts_shared),
        "secrets": found.secret_count,
    }


def _lines(checked: Checked) -> Iterator[str]:
    """A line of figures, then one per fault and warning."""
    report, tokens = checked.report, checked.tokens
    yield " · ".join((report.path, *_summary(report, tokens)))
    yield from _by_kind(report.faults, "✗")
    if report.fault_count > len(report.faults):
        yield f"  ✗ {figures.count(report.fault_count - len(report.faults))} faults are not listed"
    yield from _by_kind(checked.all_warnings, "!")


def _verdict(checked: Sequence[Checked]) -> str:
    """The number of faults, records, records that the model can't take, and warnings."""
    read = sum(each.report.read for each in checked)
    faults = sum(each.report.fault_count for each in checked)
    warnings = sum(len(each.all_warnings) for each in checked)
    found = _counted(faults, "fault") if faults else "no faults"
    refused = sum(each.tokens.refused for each in checked if each.tokens)
    rejected = f", {figures.count(refused)} the model can't take" if refused else ""
    warned = f", {_counted(warnings, 'warning')}" if warnings else ""
    return f"{found} found in {_counted(read, 'record')}{rejected}{warned}"


def _summary(report: Report, tokens: TokenFigures | None) -> Iterator[str]:
    found = report.statistics
    if found is not None:
        yield _counted(found.records, "record")
        if found.formats:
            yield ", ".join(f"{name} {figures.count(n)}" for name, n in found.formats.items())
    if report.fault_count:
        yield _counted(report.fault_count, "fault")
    if tokens is not None:
        if tokens.trained_as > tokens.records:
            trained_as = figures.count(tokens.trained_as)
            yield f"{_counted(tokens.records, 'record')} trained as {trained_as}"
        yield f"{figures.count(tokens.tokens)} tokens"
        weight = f" with weight {figures.count(round(tokens.trained_weight))}"
        yield f"{figures.count(tokens.trained_tokens)} trained" + weight * tokens.is_weighted
        if tokens.overlong:
            yield f"{_counted(tokens.overlong, 'record')} too long"
            yield f"{_counted(tokens.lost_tokens, 'token')} lost"


def _by_kind(found: Sequence[Fault], mark: str) -> Iterator[str]:
    """The first few of each kind, so that a frequent kind doesn't hide a rare one."""
    kinds: dict[str, list[Fault]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each)
    for kind, alike in kinds.items():
        for each in alike[:MOST_SHOWN]:
            yield f"  {mark} {each}"
        if len(alike) > MOST_SHOWN:
            yield f"  {mark} … and {figures.count(len(alike) - MOST_SHOWN)} more: {kind}"


def _counted(count: int, what: str) -> str:
    return f"{figures.count(count)} {what if count == 1 else what + 's'}"

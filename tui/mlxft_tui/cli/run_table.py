"""`mlxft-tui runs`: the table of runs, and what is done with several of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from mlxft import recipe as recipes
from mlxft.comparison import listing
from mlxft.comparison.columns import (
    COLUMNS,
    DEFAULT_COLUMNS,
    find_columns,
    find_order,
    sorted_rows,
)
from mlxft.comparison.filters import parse_filter
from mlxft.comparison.labels import Labels, change_labels, with_tags
from mlxft.comparison.retention import Verdict, delete, verdicts
from mlxft.comparison.table import RunRow, row_of
from mlxft.errors import MlxftError, RunError, StorageError
from mlxft.runs.history import find
from mlxft.storage.atomic_files import write_atomically
from mlxft.text import figures, path_json
from mlxft.text.printable import printable_line
from mlxft_tui.cli.csv_output import print_csv
from mlxft_tui.session import Session
from mlxft_tui.terminal import invocation

Action = Callable[[Session, argparse.Namespace], int]


def list_runs(session: Session, arguments: argparse.Namespace) -> int:
    """Print the runs that a filter keeps, live ones first or sorted."""
    columns = find_columns(arguments.columns) if arguments.columns else None
    order, keeps = find_order(arguments.sort), parse_filter(arguments.filter)
    rows = session.table.poll() or ()
    shown = [each for each in rows if keeps(each)]
    if not arguments.archived:
        shown = [each for each in shown if not each.labels.archived]
    shown = sorted_rows(shown, order)
    if arguments.json:
        found = [
            listing.mapping_of(each, columns) if columns else listing.mapping(each)
            for each in shown
        ]
        print(path_json.indented(found, 1).decode())
    elif arguments.csv:
        print_csv(listing.comma_separated(shown, columns or list(COLUMNS.values())))
    elif not rows:
        print(f"no runs in {session.adapters}; {invocation.command('demo')} makes one")
    else:
        columns = columns or find_columns(",".join(DEFAULT_COLUMNS))
        print("\n".join(listing.lines(shown, columns, time.time())))
        if hidden := len(rows) - len(shown):
            print(
                f"{_count(hidden)} not listed (archived, or left out by the filter)",
                file=sys.stderr,
            )
    return 0


def label(session: Session, arguments: argparse.Namespace) -> int:
    """Change what runs are labelled with; without a change print it."""

    def changed(labels: Labels) -> Labels:
        labels = with_tags(labels, tuple(arguments.tag), tuple(arguments.untag))
        given = {
            "name": arguments.title,
            "notes": arguments.notes,
            "archived": arguments.archive,
            "pinned": arguments.pin,
        }
        known = {name: value for name, value in given.items() if value is not None}
        return msgspec.structs.replace(labels, **known)

    directories = [find(session.adapters, each) for each in arguments.name]
    found = {each.name: change_labels(each, changed) for each in directories}
    if arguments.json:
        rows = [{"run": name, **msgspec.structs.asdict(each)} for name, each in found.items()]
        print(path_json.indented(rows, 1).decode())
    else:
        for name, each in found.items():
            print(f"{printable_line(name)}  {_labelled(each)}")
    return 0


def _labelled(labels: Labels) -> str:
    parts = [
        labels.name,
        ", ".join(labels.tags),
        "archived" if labels.archived else "",
        "pinned" if labels.pinned else "",
        labels.notes,
    ]
    return printable_line("  ".join(filter(None, parts)) or "no labels")


def diff(session: Session, arguments: argparse.Namespace) -> int:
    """Print how runs differ, or what has changed in the project since a single one."""
    from mlxft.comparison.differences import circumstances, circumstances_now, differences

    rows = _named(session, arguments.name)
    compared = {each.run: circumstances(each) for each in rows}
    if len(compared) == 1:
        compared["now"] = circumstances_now(session.saved_recipe(), session.folder)
    found = differences(list(compared.values()))
    if arguments.json:
        mappings = [each.mapping(list(compared)) for each in found]
        print(path_json.indented(mappings, 1).decode())
    elif not found:
        print("no differences in recipe, data, versions and machine, as far as the journals say")
    else:
        _print_table(["", *compared], [[each.label, *each.texts] for each in found])
    return 0


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = [[printable_line(each) for each in row] for row in (head, *rows)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def report(session: Session, arguments: argparse.Namespace) -> int:
    """Write a report of runs into a folder."""
    from mlxft.comparison.curves import read_curves
    from mlxft.comparison.report import PAGE, Compared
    from mlxft.comparison.report import report as made

    rows = _named(session, arguments.name)
    if arguments.filter or not rows:
        keeps = parse_filter(arguments.filter)
        every = [each for each in session.table.poll() or () if not each.labels.archived]
        rows = [*rows, *(each for each in every if keeps(each) and each.run not in _names(rows))]
    if not rows:
        raise RunError("There is no run to report; name some, or choose another --filter.")
    out: Path = arguments.out
    files = made([Compared(each, read_curves(each.directory)) for each in rows], time.time())
    _write(out, files, PAGE)
    print(f"{_count(len(rows))} in {printable_line(figures.short_path(out / PAGE))}")
    return 0


def _write(out: Path, files: Mapping[str, bytes], page: str) -> None:
    """Write a report's files into a new folder, or over an earlier report."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (out / page).is_file():
            raise StorageError(f"{out}: this folder holds something else; choose another --out.")
        for name, data in files.items():
            write_atomically(out / name, data, 0o644, durable=False)
    except OSError as error:
        raise StorageError(
            f"{out}: the report can't be written ({error.strerror}); choose another --out."
        ) from None


def recipe(session: Session, arguments: argparse.Namespace) -> int:
    """Print the recipe that a run's latest session trained with."""
    (row,) = _named(session, arguments.name)
    print(recipes.dump(recipes.apply_settings(row.recipe, arguments.set)), end="")
    return 0


def delete_runs(session: Session, arguments: argparse.Namespace) -> int:
    """Delete runs by name or filter, or all but the last and the best ones."""
    found = _verdicts(session, arguments)
    doomed = [each for each in found if not each.stays]
    if arguments.name and not arguments.dry_run:
        for each in found:
            if each.stays:
                raise RunError(f"{each.row.run} can't be deleted: it {each.stays}.")
    if not arguments.json:
        for each in found:
            print(f"{printable_line(each.row.run)}  {_fate(each)}")
    freed = sum(each.freed for each in doomed)
    if not arguments.dry_run and doomed:
        _confirm(len(doomed), freed, confirmed=arguments.yes)
        for each in doomed:
            delete(each.row.directory)
    if arguments.json:
        print(path_json.indented(_fates(found, freed), 1).decode())
    else:
        verb = "would free" if arguments.dry_run else "freed"
        print(f"{_count(len(doomed))} of {len(found)} {verb} {figures.size(freed)}")
    return 0


def _verdicts(session: Session, arguments: argparse.Namespace) -> tuple[Verdict, ...]:
    rows = session.table.poll() or ()
    keeps = parse_filter(arguments.filter)
    by_rule = arguments.keep_last is not None or arguments.keep_best is not None
    if not (arguments.name or arguments.filter or by_rule):
        raise RunError("Nothing says which runs; name some, or add --filter or --keep-last N.")
    named = _names(_named(session, arguments.name))
    if foreign := named - _names(rows):
        raise RunError(f"{foreign.pop()}: this run is of another project; add its --dir.")
    among = [each for each in rows if keeps(each) and (not named or each.run in named)]
    return verdicts(
        rows,
        queued=session.queued_folders(),
        keep_last=arguments.keep_last,
        keep_best=arguments.keep_best,
        among=among,
        spare_labelled=not named,
    )


def _confirm(count: int, freed: int, *, confirmed: bool) -> None:
    """Ask before runs are deleted. Raises `MlxftError` unless the answer is yes."""
    if confirmed:
        return
    if not sys.stdin.isatty():
        raise MlxftError("A deletion has to be confirmed; without a terminal add --yes.")
    question = f"Delete {_count(count)} with adapters, {figures.size(freed)}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise MlxftError("Nothing was deleted.")


def _fate(verdict: Verdict) -> str:
    if verdict.stays:
        return f"stays: {verdict.stays}"
    folder = verdict.row.directory.path
    if folder.is_symlink():
        return f"is a link, which alone is deleted; {printable_line(str(folder.resolve()))} stays"
    return f"frees {figures.size(verdict.freed)}"


def _fates(found: Sequence[Verdict], freed: int) -> dict[str, object]:
    return {
        "freed": freed,
        "deleted": [{"run": each.row.run, "freed": each.freed} for each in found if not each.stays],
        "kept": [{"run": each.row.run, "reason": each.stays} for each in found if each.stays],
    }


def _named(session: Session, names: Sequence[str]) -> list[RunRow]:
    """The rows of runs by name or folder. Raises `RunError`."""
    return [row_of(find(session.adapters, each)) for each in dict.fromkeys(names)]


def _names(rows: Sequence[RunRow]) -> set[str]:
    return {each.run for each in rows}


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


ACTIONS: Final[dict[str, Action]] = {
    "list": list_runs,
    "label": label,
    "diff": diff,
    "report": report,
    "recipe": recipe,
    "delete": delete_runs,
}

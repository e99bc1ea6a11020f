"""The arguments of the commands about runs, the queue and sweeps."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlxft_tui.cli.argument_types import existing_folder, positive, utf8_text
from mlxft_tui.cli.shared_arguments import (
    DIR,
    CommandParser,
    Commands,
    add_detach,
    add_dir,
    add_json,
    add_recipe,
    add_run,
    add_settings,
)


def add_runs(commands: Commands) -> None:
    """The list of runs and what is done with several, and what controls one."""
    runs = commands.add_parser(
        "runs", help="list the runs, live ones first; label, compare, report or delete them"
    )
    runs.appendix = _columns
    runs.add_argument(
        "--columns", type=utf8_text, metavar="A,B", help="columns, also recipe keys (default: some)"
    )
    runs.add_argument(
        "--sort",
        type=utf8_text,
        default="",
        metavar="A,-B",
        help="by these columns; --sort=-A for descending",
    )
    _add_filter(runs)
    runs.add_argument("--archived", action="store_true", help="also list archived runs")
    runs.add_argument("--csv", action="store_true", help="print CSV")
    add_json(runs)
    add_dir(runs)
    _add_actions(
        runs.add_subparsers(
            title="commands", metavar=" " * 12, dest="action", parser_class=CommandParser
        )
    )
    _add_controls(commands)


def _columns() -> str:
    from mlxft.comparison.columns import columns_help

    return columns_help()


def _add_actions(actions: Commands) -> None:
    label = actions.add_parser("label", help="name, tag, archive or pin runs, or write notes")
    _add_runs(label, nargs="+")
    for flag, purpose in (
        ("--title", "the name that lists show; empty for the folder's"),
        ("--notes", "what you want to remember of it"),
    ):
        label.add_argument(flag, type=utf8_text, metavar="TEXT", help=purpose)
    for flag, purpose in (("--tag", "add a tag"), ("--untag", "remove a tag")):
        label.add_argument(
            flag, type=utf8_text, action="append", default=[], metavar="TAG", help=purpose
        )
    for name, purpose in (("archive", "lists leave it out"), ("pin", "lists have it first")):
        label.add_argument(
            f"--{name}",
            action=argparse.BooleanOptionalAction,
            default=None,
            help=purpose,
        )
    diff = actions.add_parser(
        "diff", help="how runs differ, or what has changed in the project since one"
    )
    _add_runs(diff, nargs="+")
    report = actions.add_parser(
        "report", help="write a page about runs, with plots, and their figures as CSV and JSON"
    )
    _add_runs(report, nargs="*")
    _add_filter(report)
    report.add_argument(
        "--out", type=Path, default=Path("report"), metavar="DIR", help="default report"
    )
    recipe = actions.add_parser("recipe", help="print a run's recipe, to start again from it")
    _add_runs(recipe, nargs=1)
    add_settings(recipe)
    _add_deletion(actions.add_parser("delete", help="delete runs, or all but the last and best"))
    for each in actions.choices.values():
        each.add_argument("--dir", type=existing_folder, default=argparse.SUPPRESS, help=DIR)
    for each in (label, diff):
        each.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
        )


def _add_deletion(delete: CommandParser) -> None:
    _add_runs(delete, nargs="*")
    _add_filter(delete)
    for flag, purpose in (
        ("--keep-last", "keep the last N"),
        ("--keep-best", "keep the N with the lowest validation loss of each model and data"),
    ):
        delete.add_argument(flag, type=positive, metavar="N", help=purpose)
    delete.add_argument("--dry-run", action="store_true", help="only say what it would free")
    delete.add_argument("--yes", action="store_true", help="don't ask")
    delete.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def _add_runs(parser: CommandParser, nargs: str | int) -> None:
    parser.add_argument("name", nargs=nargs, metavar="RUN", help="a name from runs, or a folder")


def _add_filter(parser: CommandParser) -> None:
    parser.add_argument(
        "--filter",
        type=utf8_text,
        default="",
        metavar="FILTER",
        help="as 'validation_loss < 1.2 and model ~ qwen and tag:good'",
    )


def _add_controls(commands: Commands) -> None:
    for name, purpose in (
        ("stop", "stop a run after its current step and save it"),
        ("pause", "pause a run after its current step"),
        (
            "resume",
            "continue a run that was paused, stopped or killed, or train a finished one further",
        ),
    ):
        command = commands.add_parser(name, help=purpose)
        add_run(command)
        add_dir(command)
    resume = commands.choices["resume"]
    resume.add_argument(
        "--iters", type=positive, metavar="N", help="train up to N steps, also a finished run"
    )
    add_settings(resume)
    add_detach(resume)
    add_json(resume)


def add_queue(commands: Commands) -> None:
    """The queue's commands."""
    queue = commands.add_parser("queue", help="runs that wait, and train one after the other")
    actions: Commands = queue.add_subparsers(
        title="commands", metavar=" " * 12, dest="action", required=True, parser_class=CommandParser
    )
    add = actions.add_parser("add", help="add a run of a recipe at the end")
    add_recipe(add)
    add.add_argument("--name", type=utf8_text, help="the run's name (the same as run_name)")
    add_dir(add)
    actions.add_parser("list", help="list what trains, waits and has ended")
    move = actions.add_parser("move", help="move a waiting run to another place")
    _add_entries(move)
    move.add_argument("place", type=positive, metavar="PLACE", help="1 starts next")
    for name, purpose in (
        ("hold", "keep runs from starting until they are released"),
        ("release", "let held runs start"),
    ):
        _add_entries(actions.add_parser(name, help=purpose), nargs="*", default="the whole queue")
    _add_entries(actions.add_parser("remove", help="remove runs that wait"), nargs="+")
    now = actions.add_parser(
        "run-now", help="start a run at once; the one that trains is saved and waits behind it"
    )
    _add_entries(now)
    stop = actions.add_parser("stop", help="stop the run that trains, saved; the next one starts")
    for action in actions.choices.values():
        if action is not stop:
            add_json(action)
    install = actions.add_parser("install", help="continue the queue after a login or a reboot")
    install.add_argument("--print", action="store_true", help="only print what would be written")
    actions.add_parser("uninstall", help="remove what install has written")


def add_sweep(commands: Commands) -> None:
    """A sweep and its report."""
    sweep = commands.add_parser(
        "sweep", help="queue runs that differ in some parameters: a grid, or a search"
    )
    sweep.add_argument(
        "sweep",
        type=Path,
        metavar="SWEEP.yaml",
        help="a recipe, and a grid or a space",
    )
    sweep.add_argument("--dry-run", action="store_true", help="only list the points and their cost")
    report = commands.add_parser("sweep-report", help="what became of a sweep, as Markdown")
    report.add_argument("name", nargs="?", metavar="NAME", help="default: the newest sweep")
    report.add_argument("--csv", action="store_true", help="print CSV")
    for each in (sweep, report):
        add_json(each)
        add_dir(each)


def _add_entries(parser: CommandParser, nargs: str | None = None, default: str = "") -> None:
    parser.add_argument(
        "entry",
        nargs=nargs,
        type=utf8_text,
        metavar="ENTRY",
        help="a number or name from queue list" + (f" (default: {default})" if default else ""),
    )

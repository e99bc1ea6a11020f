"""Shell completion of commands, run names, recipe keys and files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import argcomplete
from argcomplete.shell_integration import shellcode

from mlxft.recipe import PARAMETERS
from mlxft_tui.cli.parser import build

RECIPES: Final = (".yaml", ".yml")

Completer: TypeAlias = "Callable[..., Iterator[str]]"


def print_script(shell: str) -> int:
    """Print the code that a shell evaluates to complete our commands."""
    print(shellcode(["mlxft-tui"], shell=shell))
    return 0


def complete() -> None:
    """Answer a shell that asks how its command line continues, and exit."""
    parser, _ = build()
    for action in _actions(parser):
        completer = _COMPLETERS.get(action.dest)
        if completer is not None and action.choices is None:
            action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of every command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def _runs(*, parsed_args: argparse.Namespace, **_: object) -> Iterator[str]:
    folder = getattr(parsed_args, "dir", Path()) / "adapters"
    return (path.parent.name for path in sorted(folder.glob("*/recipe.yaml")))


def _adapters(prefix: str, *, parsed_args: argparse.Namespace, **_: object) -> Iterator[str]:
    yield from _runs(parsed_args=parsed_args)
    yield from _paths(prefix, lambda entry: entry.name.endswith(".safetensors"))


def _base_and_adapters(
    prefix: str, *, parsed_args: argparse.Namespace, **_: object
) -> Iterator[str]:
    yield "base"
    yield from _adapters(prefix, parsed_args=parsed_args)


def _settings(prefix: str, **_: object) -> Iterator[str]:
    """``iters=``, and after ``fine_tune_type=`` the values that it takes."""
    key, equals, _value = prefix.partition("=")
    if not equals:
        yield from (f"{name}=" for name in PARAMETERS)
    elif key == "model":
        yield "model=demo"
    elif key in PARAMETERS:
        parameter = PARAMETERS[key]
        values = ("true", "false") if parameter.kind == "bool" else parameter.choices
        yield from (f"{key}={value}" for value in values)


def _columns(prefix: str, **_: object) -> Iterator[str]:
    """Columns of the runs, after a comma too; a minus before one sorts descending."""
    from mlxft.comparison.columns import COLUMNS

    start = len(prefix) - len(prefix.rpartition(",")[2].removeprefix("-"))
    yield from (f"{prefix[:start]}{name}" for name in COLUMNS)


def _devices(**_: object) -> Iterator[str]:
    yield from ("cpu", "cuda:80GB", "metal:36GB")


def _folders(prefix: str, **_: object) -> Iterator[str]:
    return _paths(prefix, lambda entry: False)


def _files(prefix: str, **_: object) -> Iterator[str]:
    return _paths(prefix, lambda entry: True)


def _recipes(prefix: str, **_: object) -> Iterator[str]:
    return _paths(prefix, lambda entry: entry.name.endswith(RECIPES))


def _models(prefix: str, **_: object) -> Iterator[str]:
    yield "demo"
    yield from _folders(prefix)


def _nothing(**_: object) -> Iterator[str]:
    yield from ()


def _paths(prefix: str, wanted: Callable[[os.DirEntry[str]], bool]) -> Iterator[str]:
    """Folders, and the wanted files, that continue a path."""
    start = prefix.rpartition("/")[2]
    before = prefix[: len(prefix) - len(start)]
    try:
        entries = sorted(os.scandir(os.path.expanduser(before) or "."), key=lambda each: each.name)
    except OSError:
        return
    for entry in entries:
        hidden = entry.name.startswith(".") and not start.startswith(".")
        if entry.name.startswith(start) and not hidden:
            if entry.is_dir():
                yield f"{before}{entry.name}/"
            elif wanted(entry):
                yield f"{before}{entry.name}"


_COMPLETERS: Final[dict[str, Completer]] = {
    "name": _runs,
    "adapter": _adapters,
    "compare": _base_and_adapters,
    "recipe": _recipes,
    "set": _settings,
    "device": _devices,
    "model": _models,
    "data": _files,
    "files": _files,
    "folder": _folders,
    "dir": _folders,
    "out": _folders,
    "exported": _folders,
    "columns": _columns,
    "sort": _columns,
    **dict.fromkeys(("filter", "title", "notes", "tag", "untag"), _nothing),
    **dict.fromkeys(
        ("prompt", "conversation", "system", "stop", "iters", "limit", "seed", "search"), _nothing
    ),
}

"""Arguments that several commands take, and the parser of a command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from mlxft_tui.cli.argument_types import existing_folder

ADAPTER: Final = "a run, or the folder or file of an adapter made here, by mlx_lm or by PEFT"

DIR: Final = "the project folder, which holds adapters/ (default: the current folder)"


class CommandParser(argparse.ArgumentParser):
    """A command's parser; `appendix` is added to its help and only computed for it."""

    appendix: Callable[[], str] | None = None

    def format_help(self) -> str:
        # argparse writes the metavar of the commands, which is blank, on a line of its own.
        help_text = re.sub(r"^ +\n", "", super().format_help(), flags=re.MULTILINE)
        return f"{help_text}\n{self.appendix()}" if self.appendix else help_text


Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"


def add_run(parser: CommandParser, nargs: str | None = None) -> None:
    """A run by name or folder."""
    parser.add_argument("name", nargs=nargs, metavar="RUN", help="a name from runs, or a folder")


def add_recipe(parser: CommandParser) -> None:
    """A recipe's file, and values in place of its own."""
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE.yaml", help="a recipe or mlx_lm's --config file"
    )
    add_settings(parser)


def add_settings(parser: CommandParser) -> None:
    """Values in place of a recipe's own."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key=value",
        help="override a parameter of the recipe; may be repeated",
    )


def add_model_and_adapter(parser: CommandParser) -> None:
    """A model and an adapter that answer."""
    parser.add_argument(
        "--model", help="a folder, a Hugging Face id, or demo (default: the adapter's)"
    )
    parser.add_argument("--adapter", help=ADAPTER)
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the model's own Python"
    )


def add_json(parser: CommandParser) -> None:
    """Output for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_detach(parser: CommandParser) -> None:
    """Whether to wait for the end."""
    parser.add_argument("--detach", action="store_true", help="return once the run trains")


def add_dir(parser: CommandParser) -> None:
    """The project's folder."""
    parser.add_argument(
        "--dir",
        type=existing_folder,
        default=Path(),
        help=DIR,
    )

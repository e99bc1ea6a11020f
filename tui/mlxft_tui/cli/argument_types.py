"""Argument types of the parser; each raises an error that names the text and what is wrong."""

from __future__ import annotations

import argparse
import difflib
import math
import os
from collections.abc import Sequence
from pathlib import Path

from mlxft.errors import MlxftError


def utf8_text(text: str) -> str:
    """Text without undecodable bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        from mlxft.text.printable import printable_line

        raise argparse.ArgumentTypeError(
            f"{printable_line(text)} holds bytes that are not UTF-8"
        ) from None
    return text


def positive(text: str) -> int:
    """A whole number from 1 to the most steps that a recipe takes."""
    from mlxft.recipe import PARAMETERS

    most = PARAMETERS["iters"].declared.maximum or math.inf
    if not text.isdecimal() or not 1 <= float(text) <= most:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to {most:.0f}")
    return int(text)


def finite(text: str) -> float:
    """A number that is neither NaN nor infinite."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is not a number")
    return number


def folder_to_open(text: str, commands: Sequence[str]) -> Path:
    """The first word of a command line that names no command. Raises `MlxftError`."""
    if not os.path.isdir(text):
        close = difflib.get_close_matches(text, commands, 1)
        hint = f"did you mean mlxft-tui {close[0]}?" if close else "see mlxft-tui --help."
        raise MlxftError(f"{text}: this is neither a folder nor a command; {hint}")
    return Path(text)


def existing_folder(text: str) -> Path:
    """A folder that exists. Raises `MlxftError`."""
    if not os.path.isdir(text):
        raise MlxftError(f"{text}: this folder doesn't exist; create it or choose another --dir.")
    return Path(text)


def project_folder(folder: Path) -> Path:
    """The one path by which a project is known everywhere, whatever the current folder.

    Raises `MlxftError`.
    """
    try:
        return folder.resolve()
    except FileNotFoundError:
        raise MlxftError("The current folder was deleted; change to another one.") from None

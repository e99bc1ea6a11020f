"""The command that starts this program in the user's shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "mlxft-tui"

OPEN_APP = (sys.executable, "-P", "-m", "mlxft_tui.cli")
"""The command that opens the app, by this interpreter."""


def command(arguments: str) -> str:
    """A command line of this program, by path if it isn't on the PATH."""
    return f"{_program()} {arguments}"


def of_run(verb: str, path: Path) -> str:
    """A command line that acts on a run from the current folder, wherever its project is."""
    path = path.resolve()
    if path.parent == Path.cwd() / "adapters":
        return command(f"{verb} {shlex.quote(path.name)}")
    if path.parent.name != "adapters":
        return command(f"{verb} {_from_here(path)}")
    return command(f"{verb} {shlex.quote(path.name)} --dir {_from_here(path.parent.parent)}")


def _from_here(path: Path) -> str:
    near = os.path.relpath(path)
    return shlex.quote(str(path) if near.startswith("..") else near)


def _program() -> str:
    own = Path(sys.executable).with_name(NAME)
    found = shutil.which(NAME)
    if found is not None and (not own.exists() or Path(found).samefile(own)):
        return NAME
    if not own.exists():
        return f"{shlex.quote(sys.executable)} -m mlxft_tui.cli"
    return _from_here(own)

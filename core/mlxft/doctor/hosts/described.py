"""What a machine has of a recipe's model and data: ``python -m mlxft.doctor.hosts.described``.

It reads a `Request` as JSON from standard input and prints a `Description` as one marked line: the
shell of another machine may print lines of its own.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

import mlxft
from mlxft.adapters.base_model import fingerprint
from mlxft.data.split_files import SplitName, files_of, split_file
from mlxft.memory.local_config import model_folder
from mlxft.storage.paths import expanded
from mlxft.telemetry.limits import MachineKind, machine_memory

MARK: Final = "mlxft-host: "

PACKAGES: Final = ("mlx", "mlx-lm")
"""Packages whose version decides what a rank computes."""

LONGEST: Final = 300
"""Characters of a text that another machine says of itself."""


class Request(msgspec.Struct, frozen=True):
    """A recipe's model and data, by its own words."""

    model: str
    data: str


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A machine's versions, its memory in bytes, and fingerprints of model and data; empty where it
    has none."""

    versions: dict[str, str] = {}
    python: str = ""
    kind: MachineKind = "cpu"
    limit: int | None = None
    available: int | None = None
    model: str = ""
    data: str = ""


def described(request: Request, folder: Path) -> Description:
    """This machine, without MLX or the network; relative paths start in `folder`."""
    memory = machine_memory()
    return Description(
        versions={"mlxft-tui": mlxft.__version__, **_versions()},
        python=platform.python_version(),
        kind=memory.kind,
        limit=memory.limit,
        available=memory.available,
        model=_model(request.model, folder),
        data=_data(folder / expanded(request.data)),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _model(name: str, folder: Path) -> str:
    found = fingerprint(model_folder(name, folder)) if name else None
    return str(found) if found else ""


def _data(folder: Path) -> str:
    """A hash of the training and validation files' contents."""
    try:
        files = [*_files(folder, "train"), *_files(folder, "valid")]
        digest = hashlib.sha256()
        for each in files:
            with each.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:
        return ""
    return digest.hexdigest()[:16] if files else ""


def _files(folder: Path, split: SplitName) -> list[Path]:
    whole = split_file(folder, split)
    return [whole] if whole.is_file() else files_of(folder, split)


def main() -> None:
    """Answer the request on standard input."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    # With the line before ended, whatever a shell has printed last.
    print(f"\n{MARK}{msgspec.json.encode(described(request, Path())).decode()}", flush=True)


if __name__ == "__main__":
    main()

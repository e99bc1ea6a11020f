"""Disks, caches and open files."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlxft.doctor.finding import Finding, Verdict, unknown
from mlxft.errors import StorageError
from mlxft.storage.paths import cache_dir, runtime_dir, runtime_path, state_dir, state_path
from mlxft.storage.space import free_space
from mlxft.text import figures
from mlxft.text.printable import printable_line

SCAN_SECONDS: Final = 2.0
"""How long a cache's size is counted."""


@dataclass(frozen=True, kw_only=True)
class _OwnFolder:
    """One of the application's own folders, and what it means that it can't be written."""

    subject: str
    variable: str
    """Moves it."""
    path: Callable[[], Path]
    make: Callable[[], Path]
    verdict: Verdict
    needed: str
    least: float
    """Bytes free on its disk below which it may become unusable in mid-run."""


_OWN_FOLDERS: Final = (
    _OwnFolder(
        subject="state folder",
        variable="MLXFT_STATE",
        path=state_path,
        make=state_dir,
        verdict="problem",
        needed="Runs need to write it",
        least=20e6,
    ),
    _OwnFolder(
        subject="runtime folder",
        variable="MLXFT_RUNTIME",
        path=runtime_path,
        make=runtime_dir,
        verdict="problem",
        needed="Runs need to write it",
        least=20e6,
    ),
    _OwnFolder(
        subject="own cache",
        variable="MLXFT_CACHE",
        path=cache_dir,
        make=cache_dir,
        verdict="warning",
        needed="Imported models and data that isn't JSONL need it, and starts are slower without",
        least=1e9,
    ),
)

_FEW_FILES: Final = 1024
_MLX_LM_FILES: Final = 4096
"""The hard limit that mlx_lm sets when it is imported; it fails where less is allowed."""


def runs_disk_finding(free: int | None, *, writable: bool) -> Finding:
    """Space for runs: adapters and checkpoints."""
    subject = "disk for runs"
    if not writable:
        return Finding(
            subject, "problem", "this folder can't be written", "Choose another with --dir."
        )
    if free is None:
        return unknown(subject)
    seen = f"{figures.size(free)} free"
    if free < 1e9:
        return Finding(subject, "problem", seen, "Free some: a full disk ends a run.")
    if free < 5e9:
        return Finding(subject, "warning", seen, "Checkpoints of larger models need more.")
    return Finding(subject, "ok", seen)


def own_folder_findings(
    free: Callable[[Path], int | None] = free_space,
) -> Iterator[Finding]:
    """Those of the application's own folders that can't be used, or whose disk is nearly full."""
    for each in _OWN_FOLDERS:
        moves = f"{each.needed}; {each.variable} moves it to another folder."
        if problem := _write_problem(each.path()) or _refusal(each.make):
            yield Finding(each.subject, each.verdict, printable_line(problem), moves)
        elif (left := free(each.path())) is not None and left < each.least:
            seen = f"{figures.size(left)} free on its disk"
            yield Finding(each.subject, each.verdict, seen, f"Free some. {moves}")


def _refusal(make: Callable[[], Path]) -> str:
    try:
        make()
    except StorageError as error:
        return str(error)
    return ""


def _write_problem(folder: Path) -> str:
    """Why a folder, which may have to be made, can't be written; empty if it can."""
    existing = next((each for each in (folder, *folder.parents) if os.path.exists(each)), folder)
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return ""
    return f"{folder} can't be written."


def cache_disk_finding(free: int | None) -> Finding:
    """Space for models of the hub."""
    if free is None:
        return unknown("disk for models")
    seen = f"{figures.size(free)} free"
    if free < 10e9:
        return Finding(
            "disk for models",
            "warning",
            seen,
            "A 4-bit 8B model takes 5 GB; HF_HOME moves the cache to another disk.",
        )
    return Finding("disk for models", "ok", seen)


def cache_finding(subject: str, counted: tuple[int, bool] | None, clean: str) -> Finding:
    """A cache's size, and how it is emptied."""
    if counted is None:
        return Finding(subject, "ok", "empty")
    size, whole = counted
    seen = figures.size(size) if whole else f"at least {figures.size(size)}"
    return Finding(subject, "ok", seen, clean if size > 20e9 else None)


def folder_size(folder: Path, seconds: float = SCAN_SECONDS) -> tuple[int, bool] | None:
    """Bytes that a folder takes on disk, and whether all was counted in time; None without it.

    Links are not followed: the hub's snapshots link to its blobs.
    """
    if not folder.is_dir():
        return None
    end, total, waiting = time.monotonic() + seconds, 0, [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for each in entries:
                if time.monotonic() > end:
                    return total, False
                if each.is_dir(follow_symlinks=False):
                    waiting.append(Path(each.path))
                elif not each.is_symlink():
                    with contextlib.suppress(OSError):
                        total += each.stat(follow_symlinks=False).st_blocks * 512
    return total, True


def open_files() -> tuple[int, int]:
    """The soft and the hard limit of this process; a very large number for none."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (1 << 62 if each == resource.RLIM_INFINITY else each for each in limits)
    return soft, hard


def open_files_finding(soft: int, hard: int) -> Finding:
    """The limit of open files, which mlx_lm changes when it is imported."""
    shown = "no limit" if soft >= 1 << 31 else figures.count(soft)
    if hard < _MLX_LM_FILES:
        return Finding(
            "open files",
            "warning",
            f"{shown}, at most {figures.count(hard)}",
            "mlx_lm's own commands may fail to start; raise the hard limit to 4096 or more.",
        )
    if soft < _FEW_FILES:
        return Finding("open files", "note", shown, "With many data files: ulimit -n 4096")
    return Finding("open files", "ok", shown)

"""A sweep's file in the project: its points, with their runs or why they were skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from mlxft.errors import RunError, StorageError
from mlxft.runs.directory import RunDirectory
from mlxft.storage.atomic_files import write_atomically
from mlxft.sweep.plan import Halving, Point, Sweep


class RecordedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point, with its run once that is in the queue."""

    number: int
    values: dict[str, Any]
    run: str | None = None
    """The name of its run."""
    skipped: str = ""
    """Why it isn't trained."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Points that train until a step, before the best of them are chosen."""

    until: int
    points: tuple[int, ...]
    """Their numbers."""
    is_queued: bool = False
    """Whether the queue has them, or had."""


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep as it was started, and with halving its rounds so far."""

    name: str
    points: tuple[RecordedPoint, ...]
    halving: Halving | None = None
    iters: int = 0
    """The steps of a point that isn't dropped, with halving."""
    rounds: tuple[Round, ...] = ()

    def is_same(self, other: SweepRecord) -> bool:
        """Whether it is the same sweep, however far it is."""
        values, others = ([each.values for each in of.points] for of in (self, other))
        return values == others and (self.halving, self.iters) == (other.halving, other.iters)

    def with_run(self, number: int, run: str) -> SweepRecord:
        """With the run of a point."""
        found = (replace(each, run=run) if each.number == number else each for each in self.points)
        return replace(self, points=tuple(found))


def recorded(sweep: Sweep, found: Sequence[Point], skipped: dict[int, str]) -> SweepRecord:
    """A sweep before its first run; `skipped` says by number why a point isn't trained."""
    made = tuple(
        RecordedPoint(
            number=each.number,
            values=msgspec.to_builtins(dict(each.values)),
            skipped=skipped.get(each.number, ""),
        )
        for each in found
    )
    record = SweepRecord(name=sweep.name, points=made)
    if sweep.halving is None:
        return record
    iters = found[0].recipe.iters
    trained = tuple(each.number for each in made if not each.skipped)
    first = Round(until=sweep.halving.rounds(iters)[0], points=trained, is_queued=True)
    return replace(record, halving=sweep.halving, iters=iters, rounds=(first,))


def record_file(project: Path, name: str) -> Path:
    """Where a sweep of a project is recorded."""
    return project / "sweeps" / f"{name}.json"


def names(project: Path) -> list[str]:
    """The project's sweeps, the newest last."""
    files: list[Path] = []
    with contextlib.suppress(OSError):
        files = sorted((project / "sweeps").glob("*.json"), key=lambda each: each.stat().st_mtime)
    return [each.stem for each in files]


def load_record(project: Path, name: str) -> SweepRecord:
    """A project's sweep by name. Raises `RunError`."""
    file = record_file(project, name)
    if not file.exists():
        known = ", ".join(names(project)) or "none yet"
        raise RunError(f"{name}: no such sweep in {project} (there are: {known}).")
    return read_record(file)


def read_record(file: Path) -> SweepRecord:
    """A recorded sweep. Raises `RunError`."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=SweepRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{file}: the sweep can't be read ({error}).") from None


def save_record(project: Path, record: SweepRecord) -> None:
    """Write a project's sweep. Raises `StorageError`."""
    write_record(record_file(project, record.name), record)


def write_record(file: Path, record: SweepRecord) -> None:
    """Replace a sweep's file. Raises `StorageError`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    except OSError as error:
        raise StorageError(
            f"{file}: the sweep can't be written ({error.strerror}); check the disk and the "
            "folder's permissions."
        ) from None


def run_of(adapters: Path, record: SweepRecord, number: int) -> RunDirectory | None:
    """The run of a point that was added before its record could say so."""
    run = RunDirectory(adapters / f"{record.name}-{number}")
    exists = run.recipe_file.is_file() or run.queued_recipe_file.is_file()
    return run if exists else None

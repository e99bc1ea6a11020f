"""A sweep's file in the project: its points, with their runs or why they were skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from mlxft.errors import RunError, StorageError
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory
from mlxft.storage.atomic_files import write_atomically
from mlxft.storage.regular_files import read_regular
from mlxft.sweep.plan import Halving, Point, Search, Span, Sweep
from mlxft.text import path_json


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
    search: Search | None = None
    """How points are drawn; None is a grid."""
    space: dict[str, list[Any] | Span] = {}
    recipe: Recipe | None = None
    """What all points of a search that draws them one by one begin with, with absolute paths."""
    longest: int | None = None
    """At most the tokens of the longest record, for the memory of later points; None is unknown."""
    ended: str = ""
    """Why a search draws no more points."""

    @property
    def draws(self) -> bool:
        """Whether points are drawn one after the other, not all of them before the first run."""
        return self.search is not None and self.halving is None

    def is_same(self, other: SweepRecord) -> bool:
        """Whether it is the same sweep, however far it is; a search's budget may differ."""
        if self.draws and self.search is not None:
            is_drawn_alike = self.search.has_same_points(other.search)
            return is_drawn_alike and (self.space, self.recipe) == (other.space, other.recipe)
        values, others = ([each.values for each in of.points] for of in (self, other))
        rules = ((of.search, of.halving, of.iters) for of in (self, other))
        return values == others and next(rules) == next(rules)

    def with_run(self, number: int, run: str) -> SweepRecord:
        """With the run of a point."""
        found = (replace(each, run=run) if each.number == number else each for each in self.points)
        return replace(self, points=tuple(found))


_decoder = msgspec.json.Decoder(SweepRecord)


def recorded(sweep: Sweep, found: Sequence[Point], skipped: Mapping[int, str]) -> SweepRecord:
    """A sweep before its first run; `skipped` says by number why a point isn't trained."""
    made = tuple(recorded_point(each, skipped.get(each.number, "")) for each in found)
    record = SweepRecord(name=sweep.name, points=made, search=sweep.search)
    if sweep.halving is None or not found:
        return record
    iters = found[0].recipe.iters
    trained = tuple(each.number for each in made if not each.skipped)
    first = Round(until=sweep.halving.rounds(iters)[0], points=trained, is_queued=True)
    return replace(record, halving=sweep.halving, iters=iters, rounds=(first,))


def recorded_point(point: Point, skipped: str = "") -> RecordedPoint:
    """A point before its run; `skipped` says why it has none."""
    values = msgspec.to_builtins(dict(point.values))
    return RecordedPoint(number=point.number, values=values, skipped=skipped)


def drawing(sweep: Sweep, base: Recipe, longest: int | None) -> SweepRecord:
    """A search before its first point. `base` has absolute paths."""
    return SweepRecord(
        name=sweep.name,
        points=(),
        search=sweep.search,
        space=sweep.space,
        recipe=base,
        longest=longest,
    )


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
        return path_json.decode(read_regular(file), _decoder)
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{file}: the sweep can't be read ({error}).") from None


def save_record(project: Path, record: SweepRecord) -> None:
    """Write a project's sweep. Raises `StorageError`."""
    write_record(record_file(project, record.name), record)


def write_record(file: Path, record: SweepRecord) -> None:
    """Replace a sweep's file. Raises `StorageError`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, path_json.indented(record, 1) + b"\n")
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

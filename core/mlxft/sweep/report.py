"""What became of a sweep, read from its runs' journals."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from mlxft.comparison.table import RunRow, row_of
from mlxft.runs.directory import RunDirectory
from mlxft.runs.view import State
from mlxft.sweep.halving import rule
from mlxft.sweep.record import RecordedPoint, SweepRecord
from mlxft.sweep.search import search_rule
from mlxft.text import figures
from mlxft.text.printable import printable_line

PointState = State | Literal["waiting", "skipped", "deleted"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A point with the figures of its run; None for what isn't known."""

    point: RecordedPoint
    state: PointState
    steps: int = 0
    iters: int = 0
    loss: float | None = None
    """Of the last report."""
    baseline: float | None = None
    """The validation loss before training."""
    best: float | None = None
    """The lowest validation loss, after `best_step` steps."""
    best_step: int | None = None
    tokens_per_second: float | None = None
    peak_memory: int | None = None
    seconds: float | None = None
    reason: str = ""
    """Why it was skipped or has failed."""
    stage: str = ""
    """Where it stands in the queue or between the rounds of halving, if its state doesn't say."""
    directory: RunDirectory | None = None
    """Its run, once that has begun."""

    @property
    def standing(self) -> str:
        """What has become of it, for people."""
        return self.stage or self.state

    @property
    def score(self) -> float | None:
        """What points are compared by: the best validation loss, or else the training loss."""
        return self.best if self.best is not None else self.loss


def results(
    adapters: Path,
    record: SweepRecord,
    known: Iterable[RunRow] = (),
    queued: Mapping[Path, bool] | None = None,
) -> list[Result]:
    """Every point: the best first, then those without a loss, in the order of the sweep.

    The journals of `known` runs aren't read again. `queued` are the folders of the runs that wait
    in the queue, with whether each is held; None is unknown.
    """
    runs = {each.directory.name: each for each in known}
    made = [_result(adapters, each, runs) for each in record.points]
    found = [replace(each, stage=_stage(adapters, record, each, queued)) for each in made]
    validated = any(each.best is not None for each in found)

    def order(result: Result) -> tuple[bool, float]:
        # A training loss says nothing beside validation losses.
        score = result.best if validated else result.loss
        return score is None, score or 0.0

    return sorted(found, key=order)


def _result(adapters: Path, point: RecordedPoint, known: Mapping[str, RunRow]) -> Result:
    if point.skipped:
        return Result(point=point, state="skipped", reason=point.skipped)
    if point.run is None:
        return Result(point=point, state="waiting")
    run = RunDirectory(adapters / point.run)
    if run.recipe_file.is_file():
        return _of_run(point, known.get(point.run) or row_of(run))
    return Result(point=point, state="waiting" if run.queued_recipe_file.is_file() else "deleted")


def _stage(
    adapters: Path, record: SweepRecord, result: Result, queued: Mapping[Path, bool] | None
) -> str:
    """Where a point stands that waits or was stopped; empty where its state says all."""
    point, rounds = result.point, record.rounds
    if result.state not in ("waiting", "stopped") or point.run is None:
        return ""
    held = (queued or {}).get(adapters.resolve() / point.run)
    if held:
        return "held"
    last = max((n for n, each in enumerate(rounds, 1) if point.number in each.points), default=0)
    if result.state == "waiting" or not last:
        return ""
    if last < len(rounds):
        return f"dropped after round {last}"
    if result.steps >= rounds[-1].until:
        return f"ended round {last}"
    has_ended_one = last > 1 and result.steps >= rounds[-2].until
    is_expected = has_ended_one and (queued is None or not rounds[-1].is_queued)
    waits = held is not None or is_expected
    return f"waits for round {last}" if waits else ""


def _of_run(point: RecordedPoint, row: RunRow) -> Result:
    said = row.summary
    return Result(
        point=point,
        directory=row.directory,
        state=row.state,
        steps=said.step,
        iters=said.iters,
        loss=said.loss,
        baseline=said.baseline_loss,
        best=said.best_validation_loss,
        best_step=said.best_validation_step,
        tokens_per_second=said.tokens_per_second,
        peak_memory=said.peak_memory or None,
        seconds=said.seconds,
        reason=said.reason,
    )


# For people


def markdown(record: SweepRecord, found: Sequence[Result]) -> str:
    """The results as a page of Markdown."""
    keys = parameters_of(record)
    head = [*keys, "state", "steps", "best val", "loss", "tok/s", "peak", "time", "run"]
    rows = [cells(each, keys) for each in found if each.state != "skipped"]
    parts = [f"# Sweep {record.name}", summary(record, found), _table(head, rows)]
    if failed := [each for each in found if each.reason and each.state != "skipped"]:
        parts += ["## Failed", _reasons(failed)]
    if skipped := [each for each in found if each.state == "skipped"]:
        parts += ["## Skipped", _reasons(skipped)]
    return "\n\n".join(parts) + "\n"


def summary(record: SweepRecord, found: Sequence[Result]) -> str:
    """What became of a sweep in a few sentences: its best point, its rules, its steps."""
    said = [_counted(found), *rules(record), _saved_steps(record, found)]
    return " ".join(filter(None, said))


def parameters_of(record: SweepRecord) -> list[str]:
    """The keys of what the sweep's points differ in."""
    return list(record.points[0].values) if record.points else list(record.space)


def rules(record: SweepRecord) -> list[str]:
    """How points are drawn, what becomes of them, and why there are no more, as sentences."""
    drawn = search_rule(record.search) if record.search else ""
    return [each for each in (drawn, rule(record), record.ended) if each]


def _counted(found: Sequence[Result]) -> str:
    counts: dict[str, int] = {}
    for each in found:
        counts[each.standing] = counts.get(each.standing, 0) + 1
    if not found:
        return "No points yet."
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    best = found[0] if found and found[0].score is not None else None
    points = "1 point" if len(found) == 1 else f"{len(found)} points"
    if best is None:
        return f"{points}: {said}."
    measure = "validation loss" if best.best is not None else "training loss"
    return (
        f"{points}: {said}. The lowest {measure}, {figures.loss(best.score)}, has "
        f"{_named(best.point)}{_gained(best)}."
    )


def _saved_steps(record: SweepRecord, found: Sequence[Result]) -> str:
    """How many of the whole grid's steps halving has trained so far."""
    whole = record.iters * sum(each.state != "skipped" for each in found)
    if record.halving is None or not whole:
        return ""
    trained = sum(each.steps for each in found)
    return f"Trained so far: {trained} of the {whole} steps of all points ({trained / whole:.1%})."


def _gained(best: Result) -> str:
    if best.best is None or not best.baseline:
        return ""
    return f", {figures.loss(best.baseline)} before training"


def cells(result: Result, keys: Sequence[str]) -> list[str]:
    """A result's values and figures as texts."""
    values = [_text(result.point.values[key]) for key in keys]
    best = f"{figures.loss(result.best)} @{result.best_step}" if result.best else figures.NONE
    return [
        *values,
        result.standing,
        f"{result.steps}/{result.iters}" if result.iters else figures.NONE,
        best,
        figures.loss(result.loss),
        figures.rate(result.tokens_per_second),
        f"{figures.gigabytes(result.peak_memory)} GB" if result.peak_memory else figures.NONE,
        figures.duration(result.seconds),
        result.point.run or figures.NONE,
    ]


def _reasons(found: Sequence[Result]) -> str:
    return "\n".join(f"- {_named(each.point)}: {printable_line(each.reason)}" for each in found)


def _named(point: RecordedPoint) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in point.values.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return figures.learning_rate(value) if 0 < abs(value) < 0.01 else f"{value:g}"
    return printable_line(str(value)).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines)


# For programs

_FIGURES: Final = {
    "state": "standing",
    "steps": "steps",
    "total_steps": "iters",
    "train_loss": "loss",
    "baseline_loss": "baseline",
    "best_validation_loss": "best",
    "best_validation_step": "best_step",
    "tokens_per_second": "tokens_per_second",
    "peak_memory": "peak_memory",
    "seconds": "seconds",
    "reason": "reason",
}
"""The figures by names that no parameter has."""


def mapping(result: Result) -> dict[str, Any]:
    """A result for JSON: memory in bytes."""
    point = result.point
    return {
        "number": point.number,
        "run": point.run,
        "values": point.values,
        **{name: getattr(result, field) for name, field in _FIGURES.items()},
    }


def comma_separated(record: SweepRecord, found: Sequence[Result]) -> str:
    """The results as CSV, a column for each parameter."""
    keys = parameters_of(record)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "run", *keys, *_FIGURES])
    for each in found:
        values = [each.point.values[key] for key in keys]
        of_run = (getattr(each, field) for field in _FIGURES.values())
        row = [each.point.number, each.point.run, *values, *of_run]
        writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()

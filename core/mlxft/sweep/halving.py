"""Which points of a sweep with halving continue after a round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import read_run
from mlxft.sweep.plan import Halving
from mlxft.sweep.record import Round, SweepRecord


def next_round(record: SweepRecord, losses: Mapping[int, float]) -> Round | None:
    """The round after the last one, with the best of its points; None if that was the last.

    `losses` are the validation losses after the round's last step, by number; a point without one
    has failed or was removed, and is dropped. Of equal ones the first in the sweep continues.
    """
    last = record.rounds[-1]
    assert record.halving is not None
    ends = record.halving.rounds(record.iters)
    known = sorted((loss, number) for number, loss in losses.items() if number in last.points)
    if last.until == ends[-1] or not known:
        return None
    kept = max(1, len(last.points) // record.halving.factor)
    numbers = tuple(sorted(number for _, number in known[:kept]))
    return Round(until=ends[ends.index(last.until) + 1], points=numbers)


def losses_after(adapters: Path, record: SweepRecord) -> dict[int, float]:
    """The validation losses of the last round's points after its last step, by number."""
    last, found = record.rounds[-1], dict[int, float]()
    for point in record.points:
        if point.number in last.points and point.run is not None:
            loss = loss_after(RunDirectory(adapters / point.run), last.until)
            if loss is not None:
                found[point.number] = loss
    return found


def loss_after(run: RunDirectory, step: int) -> float | None:
    """A run's validation loss after a step; None if it has none."""
    if not run.recipe_file.is_file():
        return None
    validations = read_run(run).view.validations
    loss = next((each.loss for each in validations if each.step == step), math.nan)
    return loss if math.isfinite(loss) else None


def with_round(record: SweepRecord, added: Round) -> SweepRecord:
    """The record with one more round."""
    return replace(record, rounds=(*record.rounds, added))


def with_queued_round(record: SweepRecord) -> SweepRecord:
    """The record whose last round is on the queue."""
    *before, last = record.rounds
    return replace(record, rounds=(*before, replace(last, is_queued=True)))


def rule(record: SweepRecord) -> str:
    """What becomes of the points, as a sentence; empty without halving."""
    if record.halving is None or not record.rounds:
        return ""
    return halving_rule(record.halving, len(record.rounds[0].points), record.iters)


def halving_rule(halving: Halving, count: int, iters: int) -> str:
    """What becomes of so many points, as a sentence; empty if all train to their end."""
    parts = list[str]()
    for until in halving.rounds(iters)[:-1]:
        kept = max(1, count // halving.factor)
        parts.append(f"after step {until} the best {kept} of {count} continue")
        count = kept
    return f"Successive halving by validation loss: {', '.join(parts)}." if parts else ""

"""What to consider before a run that is started without the app, as lines on stderr."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlxft import recipe as recipes
from mlxft.advice.before_run import before_run
from mlxft.advice.fit import USUAL_BLOCKS
from mlxft.data.formats import identity
from mlxft.data.packed_records import count_contradictions
from mlxft.data.token_cache import kept_figures
from mlxft.duration.expectation import longest_record, past_runs
from mlxft.errors import ModelError
from mlxft.memory.calibrated import CalibratedEstimator, load_calibration
from mlxft.memory.local_config import local_config, model_folder
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.telemetry.limits import machine_memory
from mlxft.text.printable import printable_line
from mlxft_tui.terminal import invocation

if TYPE_CHECKING:
    from pathlib import Path

    from mlxft.advice.types import Advice
    from mlxft.data.dataset import Split
    from mlxft.runs.followed import FollowedRun
    from mlxft_tui.session import Session


@dataclass(frozen=True, kw_only=True)
class _Records:
    """What advice needs to know of the records; None where it isn't known."""

    train: int
    valid: int
    contradictions: int = 0
    longest: int | None = None
    steps_per_epoch: int | None = None


def print_advice(session: Session, recipe: Recipe, data: tuple[Split, Split]) -> None:
    """Say what to consider before a new run on these records."""
    train, valid = data
    measured = kept_figures(train.path, recipe)
    records = _Records(
        train=len(train.records),
        valid=len(valid.records),
        contradictions=count_contradictions(identity(each.fields) for each in train.records),
        longest=measured.longest if measured and measured.whole else None,
        steps_per_epoch=measured.steps_per_epoch if measured else None,
    )
    _print(_advice(session, recipe, records), session.data(recipe))


def print_advice_to_continue(session: Session, recipe: Recipe, run: FollowedRun) -> None:
    """Say what to consider before a run is continued, of what can still be changed.

    The journal knows the records, so a large file isn't read for this.
    """
    prepared = run.view.data
    if prepared is None:
        return  # it starts again, after what was said at its start
    is_batched_so = all(recipes.get(recipe, key) == recipes.get(run.recipe, key) for key in _ROWS)
    records = _Records(
        train=prepared.train_records,
        valid=prepared.valid_records,
        longest=prepared.longest,
        steps_per_epoch=prepared.steps_per_epoch if is_batched_so else None,
    )
    found = _advice(session, recipe, records)
    free = (each for each in found if each.change is None or not _is_fixed(each.change[0]))
    _print(free, session.data(recipe))


_ROWS: Final = ("batch_size", "packing", "max_seq_length", "overlong")
"""What the number of steps of an epoch depends on, besides the records."""


def _is_fixed(key: str) -> bool:
    return recipes.find(key).declared.resume == "fixed"


def _print(advice: Iterator[Advice], data: Path) -> None:
    lists = invocation.command(f"check-data {shlex.quote(str(data))}")
    for each in advice:
        where = f" {lists} lists them." if each.records_listed else ""
        line = printable_line(f"{each.message}{where} ({each.evidence})")
        print(f"! {line}", file=sys.stderr, flush=True)


def _advice(session: Session, recipe: Recipe, records: _Records) -> Iterator[Advice]:
    """All advice; without the model's config none on its memory and learning rate.

    The memory is estimated once the longest record is known from the app or an earlier run.
    """
    shapes = _shapes(session, recipe)
    if shapes is None and model_folder(recipe.model, session.folder).is_dir():
        return  # the engine refuses the model
    longest = records.longest or longest_record(
        recipe, past_runs(session.history.poll() or ()), records.train
    )
    machine = machine_memory()
    estimator = (
        CalibratedEstimator(
            shapes, machine.kind, machine.limit, longest, load_calibration(shapes, machine.kind)
        )
        if shapes and longest
        else None
    )
    found = before_run(
        recipe,
        shapes.bits if shapes else None,
        estimator.estimate if estimator else None,
        train_records=records.train,
        valid_records=records.valid,
        steps_per_epoch=records.steps_per_epoch,
        blocks=len(shapes.blocks) if shapes else USUAL_BLOCKS,
        contradictions=records.contradictions if recipe.loss == "sft" else 0,
    )
    yield from (each for each in found if shapes or each.topic != "learning_rate")


def _shapes(session: Session, recipe: Recipe) -> ModelShapes | None:
    """The model's matrices; None if it isn't here yet or its config can't be read."""
    try:
        return ModelShapes.from_config(local_config(recipe.model, session.folder))
    except ModelError:
        return None

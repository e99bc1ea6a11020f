"""How long a run will take: by this machine's past runs, or else by what its chip can do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mlxft import recipe as recipes
from mlxft.data.batch_plan import padded_width
from mlxft.duration.chips import (
    Chip,
    Work,
    chip_of,
    processor,
    step_operations,
    step_seconds,
    validation_operations,
)
from mlxft.recipe import Recipe
from mlxft.runs.followed import FollowedRun

if TYPE_CHECKING:
    from mlxft.memory.shapes import ModelShapes
    from mlxft.runs.events import BackendReady
    from mlxft.runs.view import RunView

FEWEST_STEPS = 5
"""Fewer steps say more about starting than about training."""

STRETCHES = 4
"""Parts of a run whose speeds tell how even it is."""

MOST_RUNS = 8
"""Runs that an expectation is taken from, the newest ones; older ones were of another software."""


@dataclass(frozen=True)
class Expectation:
    """Seconds of a whole run, its speed, how far off both may be, and what they were taken from.

    `spread` is a factor: the truth is expected between a figure divided and multiplied by it.
    `validating` is what of the seconds goes into validations.
    """

    seconds: float
    tokens_per_second: float
    source: str
    spread: float = 1.0
    validating: float = 0.0


@dataclass(frozen=True)
class Rows:
    """What is known of the data: a row's mean tokens, the share of them that is trained, and the
    rows to validate on."""

    tokens: float | None = None
    trained: float = 1.0
    valid_rows: int = 0


@dataclass(frozen=True)
class PastRun:
    """What a run that has trained tells of the next; `slowest` and `fastest` are its stretches'
    paces in shares of its own, `row` the mean tokens of its rows."""

    name: str
    recipe: Recipe
    device: str | None
    step_seconds: float
    trained_tokens: float
    slowest: float
    fastest: float
    row: float | None
    longest: int | None
    train_records: int | None


def past_runs(runs: Iterable[FollowedRun]) -> tuple[PastRun, ...]:
    """The runs that have trained long enough to tell something, in their order."""
    return tuple(_past(run) for run in runs if run.view.steps.count >= FEWEST_STEPS)


def _past(run: FollowedRun) -> PastRun:
    view, steps = run.view, run.view.steps
    paces = [
        sum(steps.seconds[start:end]) / max(1.0, sum(steps.tokens[start:end]))
        for start, end in pairwise(len(steps) * part // STRETCHES for part in range(STRETCHES + 1))
    ]
    seconds, tokens = sum(steps.seconds), sum(steps.tokens)
    own = seconds / max(1.0, tokens) or 1.0
    return PastRun(
        run.directory.name,
        run.recipe,
        view.backend.device if view.backend else None,
        seconds / steps.count,
        tokens / steps.count,
        max(paces) / own,
        min(paces) / own,
        _mean_row(view),
        view.data.longest if view.data else None,
        view.data.train_records if view.data else None,
    )


def _mean_row(view: RunView) -> float | None:
    data = view.data
    rows = (data.rows or data.train_records) if data else 0
    return data.tokens / rows if data and rows and data.tokens else None


def expect(
    recipe: Recipe,
    runs: Sequence[PastRun],
    shapes: ModelShapes | None = None,
    backend: BackendReady | None = None,
    rows: Rows | None = None,
) -> Expectation | None:
    """The run's time; None where neither past runs nor the chip tell it."""
    rows = rows or Rows()
    by_runs = _by_runs(recipe, _alike(recipe, runs, shapes, backend), shapes, rows)
    if by_runs is not None or shapes is None or backend is None:
        return by_runs
    chip = chip_of(backend.device)
    if chip is None and backend.gflops:
        chip = processor(backend.gflops * 1e9)
    return _by_chip(recipe, shapes, chip, backend, rows) if chip else None


def _alike(
    recipe: Recipe,
    runs: Sequence[PastRun],
    shapes: ModelShapes | None,
    backend: BackendReady | None,
) -> list[PastRun]:
    """Runs of the same model on the same device, of the same kind if there are any.

    Another kind of run is of use only where the model's shapes tell what it costs beside this one.
    """
    same = [
        run
        for run in runs
        if last_part(run.recipe.model) == last_part(recipe.model)
        and (backend is None or run.device in (None, backend.device))
    ]
    kind = [run for run in same if _kind(run.recipe) == _kind(recipe)]
    return (kind or (same if shapes else []))[:MOST_RUNS]


def _by_runs(
    recipe: Recipe, runs: Sequence[PastRun], shapes: ModelShapes | None, rows: Rows
) -> Expectation | None:
    """The newest like run's pace, times what this recipe asks for; the spread is that of all."""
    if not runs:
        return None
    newest = runs[0]
    known = rows.tokens is not None and newest.row is not None
    tokens = recipe.batch_size * (rows.tokens or 1.0 if known else 1.0)
    before = newest.recipe.batch_size * (newest.row or 1.0 if known else 1.0)
    ratio, looking = tokens / before, 1 / 3
    if shapes is not None:
        work = work_of(shapes, recipe)
        cost = step_operations(work, recipe, tokens)
        looking = validation_operations(work, tokens) / cost
        ratio = cost / step_operations(work_of(shapes, newest.recipe), newest.recipe, before)
    step = newest.step_seconds * ratio
    validating = math.prod(recipes.validations(recipe, rows.valid_rows)) * step * looking
    trained = newest.trained_tokens * tokens / before
    paces = [_pace(run, shapes) for run in runs]
    spread = max(
        max(pace * run.slowest for pace, run in zip(paces, runs, strict=True)) / paces[0],
        paces[0] / min(pace * run.fastest for pace, run in zip(paces, runs, strict=True)),
    )
    return Expectation(
        recipe.iters * step + validating,
        trained / step,
        f"as {newest.name} went",
        spread,
        validating,
    )


def _pace(run: PastRun, shapes: ModelShapes | None) -> float:
    """Seconds for a unit of a run's work."""
    tokens = run.recipe.batch_size * (run.row or 1.0)
    if shapes is None:
        return run.step_seconds / tokens
    return run.step_seconds / step_operations(work_of(shapes, run.recipe), run.recipe, tokens)


def _by_chip(
    recipe: Recipe, shapes: ModelShapes, chip: Chip, backend: BackendReady, rows: Rows
) -> Expectation:
    work = work_of(shapes, recipe)
    tokens = recipe.batch_size * max(1.0, rows.tokens or recipe.max_seq_length)
    shortest, longest = step_seconds(chip, work, recipe, tokens)
    middle = math.sqrt(shortest * longest)
    looking = validation_operations(work, tokens) / step_operations(work, recipe, tokens)
    validating = math.prod(recipes.validations(recipe, rows.valid_rows)) * middle * looking
    source = (
        f"by {backend.gflops:.0f} GFLOP/s measured here"
        if backend.kind == "cpu" and backend.gflops
        else f"by the speed of an {backend.device}"
    )
    return Expectation(
        recipe.iters * middle + validating,
        rows.trained * tokens / middle,
        source,
        longest / middle,
        validating,
    )


def work_of(shapes: ModelShapes, recipe: Recipe) -> Work:
    """What the model asks of a chip for each token under this recipe."""
    head = (shapes.head or shapes.embedding).parameters
    trained = sum(each.active_parameters for each in shapes.trained_blocks(recipe.num_layers))
    return Work(shapes.active_parameters + head, trained, head, shapes.stored_bytes)


def longest_row(recipe: Recipe, runs: Iterable[PastRun], records: int | None) -> int | None:
    """The longest record in tokens, where a run has tokenized the same records."""
    for run in runs:
        same = last_part(run.recipe.model) == last_part(recipe.model)
        if run.longest and same and run.train_records == records:
            return padded_width(run.longest, recipe.max_seq_length)
    return None


def _kind(recipe: Recipe) -> tuple[str, bool]:
    return recipe.fine_tune_type, recipe.grad_checkpoint


def last_part(path: str) -> str:
    """A run names its places in full, the recipe being edited as they were typed."""
    return path.rstrip("/").rpartition("/")[2]

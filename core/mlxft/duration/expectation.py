"""How long a run will take, from this machine's past runs or else from its chip's specs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mlxft import recipe as recipes
from mlxft.duration.chips import (
    Chip,
    Work,
    chip_of,
    cpu,
    step_operations,
    step_seconds,
    validation_operations,
)
from mlxft.hosts import rank_count
from mlxft.hosts.link import Link, gradient_message
from mlxft.memory.estimator import adapter_parameters, normed_weights, trained_parameters
from mlxft.memory.outside import trained_outside
from mlxft.recipe import Recipe
from mlxft.runs.followed import FollowedRun

if TYPE_CHECKING:
    from mlxft.memory.shapes import ModelShapes
    from mlxft.runs.events import BackendReady
    from mlxft.runs.view import RunView

FEWEST_STEPS = 5
"""Fewer steps say more about starting up than about training."""

PARTS = 4
"""Parts of a run whose speeds are compared for its spread."""

MOST_RUNS = 8
"""The newest runs are used; older ones may be from other software versions."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Seconds of a whole run, its speed, and where both come from.

    `spread` is a factor: the true values lie between the figures divided and multiplied by it.
    `validating` of the seconds are validations, and the pass that finds a loss's reference.
    """

    seconds: float
    tokens_per_second: float
    source: str
    spread: float = 1.0
    validating: float = 0.0


@dataclass(frozen=True)
class RowSummary:
    """The data's mean tokens per row, the share of them that is trained, validation rows, and the
    steps of an epoch where they are known."""

    tokens: float | None = None
    trained_share: float = 1.0
    valid_rows: int = 0
    steps_per_epoch: int | None = None


def rows_of_files(recipe: Recipe, train_records: int, valid_records: int) -> RowSummary:
    """What is known of a recipe's rows before anything is measured in tokens."""
    epoch = None if recipe.packing else recipes.steps_per_epoch(train_records, recipe.batch_size)
    return RowSummary(valid_rows=valid_records, steps_per_epoch=epoch or None)


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A past run's speed; `slowest` and `fastest` are the paces of its parts as shares of the
    whole run's, `row` the mean tokens of its rows."""

    name: str
    recipe: Recipe
    device: str | None
    kind: str | None
    steps: int
    step_seconds: float
    trained_tokens: float
    slowest: float
    fastest: float
    row: float | None
    longest: int | None
    train_records: int | None
    link: Link | None = None
    """The link between its ranks, if it measured one."""

    def exchange(self, shapes: ModelShapes | None) -> float:
        """Seconds of a step in which its ranks added up their gradients."""
        return _exchange(self.recipe, shapes, self.link)


def past_runs(runs: Iterable[FollowedRun]) -> tuple[PastRun, ...]:
    """What all runs say of speed and data, in the same order."""
    return tuple(_past(run) for run in runs)


def _past(run: FollowedRun) -> PastRun:
    view, steps = run.view, run.view.steps
    paces = [
        sum(steps.seconds[start:end]) / max(1.0, sum(steps.tokens[start:end]))
        for start, end in pairwise(len(steps) * part // PARTS for part in range(PARTS + 1))
    ]
    seconds, tokens = sum(steps.seconds), sum(steps.tokens)
    own = seconds / max(1.0, tokens) or 1.0
    return PastRun(
        name=run.directory.name,
        recipe=run.recipe,
        device=view.backend.device if view.backend else None,
        kind=view.backend.kind if view.backend else None,
        steps=steps.count,
        step_seconds=seconds / max(1, steps.count),
        trained_tokens=tokens / max(1, steps.count),
        slowest=max(paces) / own,
        fastest=min(paces) / own,
        row=_mean_row(view, run.recipe),
        longest=view.data.longest if view.data else None,
        train_records=view.data.train_records if view.data else None,
        link=view.joined.link if view.joined else None,
    )


def _mean_row(view: RunView, recipe: Recipe) -> float | None:
    """Mean tokens of a row; the journal counts a pair as one."""
    data = view.data
    rows = (data.rows or data.train_records) if data else 0
    rows *= recipes.rows_per_step(recipe) // recipe.batch_size
    return data.tokens / rows if data and rows and data.tokens else None


def expect(
    recipe: Recipe,
    runs: Sequence[PastRun],
    shapes: ModelShapes | None = None,
    backend: BackendReady | None = None,
    rows: RowSummary | None = None,
) -> Expectation | None:
    """The run's duration; None if neither past runs nor the chip are known."""
    rows = rows or RowSummary()
    same = (run.link for run in runs if run.recipe.hosts == recipe.hosts)
    exchange = _exchange(recipe, shapes, next((each for each in same if each), None))
    comparable = _comparable(recipe, runs, shapes, backend)
    from_runs = _from_runs(recipe, comparable, shapes, rows, exchange)
    if from_runs is not None or shapes is None or backend is None:
        return from_runs
    chip = chip_of(backend.device)
    if chip is None and backend.gflops:
        chip = cpu(backend.gflops * 1e9)
    return _from_chip(recipe, shapes, chip, backend, rows, exchange) if chip else None


def _rows_at_once(recipe: Recipe, kind: str | None) -> int:
    """Rows of a step that one device computes: ranks of a machine share all but NVIDIA's GPUs."""
    sharing = 1 if kind == "cuda" else rank_count(recipe.hosts).here
    return min(recipes.rows_per_step(recipe), sharing * recipes.rows_of_largest_part(recipe))


def _exchange(recipe: Recipe, shapes: ModelShapes | None, link: Link | None) -> float:
    """Seconds of a step in which ranks add up their gradients; 0 where the link isn't known."""
    if link is None or shapes is None:
        return 0.0
    message = gradient_message(trained_parameters(shapes, recipe))
    return link.seconds(message, rank_count(recipe.hosts).all)


def _comparable(
    recipe: Recipe,
    runs: Sequence[PastRun],
    shapes: ModelShapes | None,
    backend: BackendReady | None,
) -> list[PastRun]:
    """Runs of the same model on the same device, of the same kind if there are any.

    Another kind of run can be converted only if the model's shapes are known.
    """
    same = [
        run
        for run in runs
        if run.steps >= FEWEST_STEPS
        and last_part(run.recipe.model) == last_part(recipe.model)
        and (backend is None or run.device in (None, backend.device))
    ]
    kind = [run for run in same if _kind(run.recipe) == _kind(recipe)]
    return (kind or (same if shapes else []))[:MOST_RUNS]


def _from_runs(
    recipe: Recipe,
    runs: Sequence[PastRun],
    shapes: ModelShapes | None,
    rows: RowSummary,
    exchange: float,
) -> Expectation | None:
    """The newest comparable run's pace times this recipe's work; the spread is that of all runs.

    Work is that of the rank with the most rows, to which the sum of the gradients comes.
    """
    if not runs:
        return None
    newest = runs[0]
    known = rows.tokens is not None and newest.row is not None
    row, row_before = (rows.tokens or 1.0, newest.row or 1.0) if known else (1.0, 1.0)
    tokens = _rows_at_once(recipe, newest.kind) * row
    before = _rows_at_once(newest.recipe, newest.kind) * row_before
    all_tokens = recipes.rows_per_step(recipe) * row
    all_before = recipes.rows_per_step(newest.recipe) * row_before
    ratio, validation = tokens / before, 1 / 3
    if shapes is not None:
        work = work_of(shapes, recipe)
        cost = _step_operations(work, recipe, tokens)
        validation = validation_operations(work, tokens) / cost
        ratio = cost / _step_operations(work_of(shapes, newest.recipe), newest.recipe, before)
    own = max(0.0, newest.step_seconds - newest.exchange(shapes)) * ratio
    step = own + exchange
    validating = _forward_passes(recipe, rows, runs) * own * validation
    trained = newest.trained_tokens * all_tokens / all_before
    paces = [_pace(run, shapes) for run in runs]
    spread = max(
        max(pace * run.slowest for pace, run in zip(paces, runs, strict=True)) / paces[0],
        paces[0] / min(pace * run.fastest for pace, run in zip(paces, runs, strict=True)),
    )
    return Expectation(
        seconds=recipe.iters * step + validating,
        tokens_per_second=trained / step,
        source=f"from {newest.name}",
        spread=spread,
        validating=validating,
    )


def _pace(run: PastRun, shapes: ModelShapes | None) -> float:
    """A run's seconds per unit of work."""
    tokens = _rows_at_once(run.recipe, run.kind) * (run.row or 1.0)
    if shapes is None:
        return run.step_seconds / tokens
    return run.step_seconds / _step_operations(work_of(shapes, run.recipe), run.recipe, tokens)


def _from_chip(
    recipe: Recipe,
    shapes: ModelShapes,
    chip: Chip,
    backend: BackendReady,
    rows: RowSummary,
    exchange: float,
) -> Expectation:
    work = work_of(shapes, recipe)
    row = max(1.0, rows.tokens or recipe.max_seq_length)
    tokens = _rows_at_once(recipe, backend.kind) * row
    shortest, longest = step_seconds(chip, work, recipe, tokens)
    middle = math.sqrt(shortest * longest)
    cost = _step_operations(work, recipe, tokens)
    middle *= cost / step_operations(work, recipe, tokens)
    validation = validation_operations(work, tokens) / cost
    validating = _forward_passes(recipe, rows) * middle * validation
    source = (
        f"from {backend.gflops:.0f} GFLOP/s measured here"
        if backend.kind == "cpu" and backend.gflops
        else f"from {backend.device} specs"
    )
    return Expectation(
        seconds=recipe.iters * (middle + exchange) + validating,
        tokens_per_second=rows.trained_share
        * recipes.rows_per_step(recipe)
        * row
        / (middle + exchange),
        source=source,
        spread=longest / middle,
        validating=validating,
    )


def _step_operations(work: Work, recipe: Recipe, tokens: float) -> float:
    """FLOP of a step; KTO estimates its KL divergence by one more forward pass."""
    more = validation_operations(work, tokens) if recipe.loss == "kto" else 0.0
    return step_operations(work, recipe, tokens) + more


def _forward_passes(recipe: Recipe, rows: RowSummary, runs: Sequence[PastRun] = ()) -> float:
    """Forward passes of a batch besides the steps: validations, and what finds the reference.

    KTO also needs the reference of its mismatched answers.
    """
    times, batches = recipes.validations(recipe, rows.valid_rows)
    each = 2 if recipe.loss == "kto" else 1
    return each * (times * batches + _reference_batches(recipe, rows, batches, runs))


def _reference_batches(
    recipe: Recipe, rows: RowSummary, validated: int, runs: Sequence[PastRun]
) -> int:
    """Batches whose reference the run has to compute: what an earlier run has computed is kept."""
    if recipe.loss not in recipes.WITH_REFERENCE:
        return 0
    trained = min(recipe.iters, rows.steps_per_epoch or recipe.iters)
    answers = _compared_answers(recipe)
    kept = [run.recipe.iters for run in runs if _compared_answers(run.recipe) == answers]
    return max(0, trained - max(kept)) if kept else trained + validated


def _compared_answers(recipe: Recipe) -> tuple[object, ...]:
    """What decides the batches of answers and the model before training."""
    return (
        last_part(recipe.data),
        recipe.loss in recipes.WITH_REFERENCE,
        recipe.loss == "kto",
        recipe.batch_size,
        recipe.max_seq_length,
        recipe.seed,
        recipe.packing,
        recipe.resume_adapter_file,
        recipe.fine_tune_type == "dora",
    )


def work_of(shapes: ModelShapes, recipe: Recipe) -> Work:
    """The model's work per token with this recipe."""
    head = (shapes.head or shapes.embedding).parameters
    blocks, outside = shapes.trained_blocks(recipe.num_layers), trained_outside(shapes, recipe)
    passed = shapes.blocks if outside.of_embedding else blocks
    trained = sum(each.active_parameters for each in passed)
    # A token passes through the adapters of its own experts only.
    active = sum(each.active_parameters for each in blocks) / max(
        1, sum(each.parameters for each in blocks)
    )
    return Work(
        shapes.active_parameters + head,
        trained,
        head,
        shapes.stored_bytes,
        adapter=round(active * adapter_parameters(blocks, recipe)) + outside.of_head,
        normed=normed_weights(blocks, recipe),
    )


def longest_record(recipe: Recipe, runs: Iterable[PastRun], records: int | None) -> int | None:
    """Tokens of the longest record, if a run has tokenized the same records."""
    for run in runs:
        same = last_part(run.recipe.model) == last_part(recipe.model)
        if run.longest and same and run.train_records == records:
            return run.longest
    return None


def _kind(recipe: Recipe) -> tuple[str, bool]:
    return recipe.fine_tune_type, recipe.grad_checkpoint


def last_part(path: str) -> str:
    """The last part of a path; runs have absolute paths, the edited recipe has them as typed."""
    return path.rstrip("/").rpartition("/")[2]

"""What past runs on this machine tell of the next: its time, its longest row, its memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlxft.data.batch_plan import padded_width
from mlxft.recipe import Recipe
from mlxft.runs.events import RunFinished
from mlxft.speed import Work, chip_of, tokens_per_second
from mlxft_tui.following import FollowedRun

if TYPE_CHECKING:
    from mlxft.memory.estimator import Kind
    from mlxft.memory.shapes import ModelShapes

FEWEST_STEPS = 5
"""Fewer steps say more about starting than about training."""


@dataclass(frozen=True)
class Expectation:
    """Seconds of a whole run, its speed, how far off both may be, and what they were taken from.

    `spread` is a factor: the truth is expected between a figure divided and multiplied by it.
    """

    seconds: float
    tokens_per_second: float
    source: str
    spread: float = 1.0


def expect(recipe: Recipe, runs: Iterable[FollowedRun]) -> Expectation | None:
    """The newest like run's time for a step, scaled by the batch; None where there is none.

    Like is the same model, trained in the same way, with or without checkpointing as here. The
    spread is that of all like runs.
    """
    like = [
        run
        for run in runs
        if _kind(run.recipe) == _kind(recipe) and run.view.steps.count >= FEWEST_STEPS
    ]
    if not like:
        return None
    paces = [_seconds_a_record(run) for run in like]
    newest = like[0].view.steps
    return Expectation(
        paces[0] * recipe.batch_size * recipe.iters,
        sum(newest.tokens) / sum(newest.seconds),
        f"as {like[0].directory.name} went",
        max(max(paces) / paces[0], paces[0] / min(paces)),
    )


def _seconds_a_record(run: FollowedRun) -> float:
    steps = run.view.steps
    return sum(steps.seconds) / steps.count / run.recipe.batch_size


def expect_of_chip(
    recipe: Recipe, shapes: ModelShapes, device: str, row: float | None
) -> Expectation | None:
    """What an Apple chip's bandwidth and speed let expect for rows of so many tokens on average."""
    chip = chip_of(device)
    if chip is None:
        return None
    tokens = row or recipe.max_seq_length
    slowest, fastest = tokens_per_second(chip, _work(shapes, recipe), recipe, tokens)
    middle = math.sqrt(slowest * fastest)
    seconds = recipe.iters * recipe.batch_size * tokens / middle
    return Expectation(seconds, middle, f"by the speed of an {device}", fastest / middle)


def _work(shapes: ModelShapes, recipe: Recipe) -> Work:
    head = (shapes.head or shapes.embedding).parameters
    blocks = sum(each.active_parameters for each in shapes.blocks)
    trained = sum(each.active_parameters for each in shapes.trained_blocks(recipe.num_layers))
    return Work(blocks + head, trained, head, shapes.stored_bytes)


def longest_row(recipe: Recipe, runs: Iterable[FollowedRun], records: int | None) -> int | None:
    """The longest record in tokens, where a run has tokenized the same records."""
    for run in runs:
        data = run.view.data
        same = _last(run.recipe.model) == _last(recipe.model)
        if data and same and data.train_records == records:
            return padded_width(data.longest, recipe.max_seq_length)
    return None


def memory_correction(
    recipe: Recipe, runs: Iterable[FollowedRun], shapes: ModelShapes, kind: Kind
) -> float:
    """How far this model's finished runs on this machine were off their estimates."""
    from mlxft.memory.calibration import Peak, correction
    from mlxft.memory.estimator import estimate

    peaks = []
    for run in runs:
        view, ending = run.view, run.view.ending
        here = view.backend is not None and view.backend.kind == kind
        same = here and _last(run.recipe.model) == _last(recipe.model)
        if same and view.data and isinstance(ending, RunFinished):
            longest = padded_width(view.data.longest, run.recipe.max_seq_length)
            expected = estimate(shapes, run.recipe, kind, None, longest)
            peaks.append(Peak(expected, ending.peak_memory))
    return correction(peaks)


def _kind(recipe: Recipe) -> tuple[str, str, bool]:
    return _last(recipe.model), recipe.fine_tune_type, recipe.grad_checkpoint


def _last(path: str) -> str:
    """A run names its places in full, the recipe being edited as they were typed."""
    return path.rstrip("/").rpartition("/")[2]

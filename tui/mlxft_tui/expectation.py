"""What past runs on this machine tell of the next: its time, its longest row, its memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlxft.recipe import Recipe
from mlxft.runs.events import RunFinished
from mlxft_tui.following import FollowedRun

if TYPE_CHECKING:
    from mlxft.memory.estimator import Kind
    from mlxft.memory.shapes import ModelShapes

FEWEST_STEPS = 5
"""Fewer steps say more about starting than about training."""


@dataclass(frozen=True)
class Expectation:
    """Seconds of a whole run, and the past run that they were scaled from."""

    seconds: float
    tokens_per_second: float
    run: str


def expect(recipe: Recipe, runs: Iterable[FollowedRun]) -> Expectation | None:
    """The newest like run's time for a step, scaled by the batch; None where there is none.

    Like is the same model, trained in the same way, with or without checkpointing as here.
    """
    for run in runs:
        steps = run.view.steps
        if _kind(run.recipe) == _kind(recipe) and len(steps) >= FEWEST_STEPS:
            seconds = sum(steps.seconds)
            a_step = seconds / len(steps) * recipe.batch_size / run.recipe.batch_size
            return Expectation(
                a_step * recipe.iters, sum(steps.tokens) / seconds, run.directory.name
            )
    return None


def longest_row(recipe: Recipe, runs: Iterable[FollowedRun], records: int | None) -> int | None:
    """The longest record in tokens, where a run has tokenized the same records."""
    for run in runs:
        data = run.view.data
        same = _last(run.recipe.model) == _last(recipe.model)
        if data and same and data.train_records == records:
            return data.longest
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
            expected = estimate(shapes, run.recipe, kind, None, view.data.longest)
            peaks.append(Peak(expected, ending.peak_memory))
    return correction(peaks)


def _kind(recipe: Recipe) -> tuple[str, str, bool]:
    return _last(recipe.model), recipe.fine_tune_type, recipe.grad_checkpoint


def _last(path: str) -> str:
    """A run names its places in full, the recipe being edited as they were typed."""
    return path.rstrip("/").rpartition("/")[2]

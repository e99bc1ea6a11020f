"""What a run reports about itself: its latest steps, its cost, and its summary."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

from mlxft.compute import backend
from mlxft.compute.training.state import Spent, TrainingState
from mlxft.recipe import Recipe
from mlxft.runs import events as ev

Reason = Literal["completed", "early_stopped", "stopped"]


def report(state: TrainingState, learning_rate: float) -> ev.TrainReported:
    """The report of the steps in the state's window, of which there must be one at least."""
    window, memory = state.window, backend.memory()
    assert window.loss is not None
    return ev.TrainReported(
        step=state.step,
        loss=window.loss,
        learning_rate=learning_rate,
        steps_per_second=window.steps / window.seconds,
        tokens_per_second=window.tokens / window.seconds,
        trained_tokens=state.trained_tokens,
        peak_memory=memory.peak,
        active_memory=memory.active,
        cache_memory=memory.cache,
    )


class Account:
    """Time and memory of a run: of its earlier sessions and of this one."""

    def __init__(self, before: Spent) -> None:
        self._before = before
        self._started: float | None = None

    def start(self) -> None:
        """Start this session's clock."""
        self._started = time.perf_counter()

    def total(self, state: TrainingState) -> Spent:
        """What the run has taken until now."""
        spent = state.spent or self._before
        here = time.perf_counter() - self._started if self._started is not None else 0.0
        return replace(
            spent,
            seconds=self._before.seconds + here,
            peak=max(self._before.peak, backend.memory().peak),
            training_peak=max(self._before.training_peak, backend.training_peak()),
        )


def end_reason(state: TrainingState, recipe: Recipe) -> Reason:
    """Why a run in this state trains no further step; the last validation belongs to it."""
    if state.step >= recipe.iters:
        waits = state.validation_waits and recipe.val_batches != 0
        return "stopped" if waits else "completed"
    return "early_stopped" if state.has_lost_patience(recipe) else "stopped"


def summary(state: TrainingState, spent: Spent, reason: Reason, *, folder: str) -> ev.RunFinished:
    """How a run went, over all its sessions."""
    return ev.RunFinished(
        reason=reason,
        step=state.step,
        first_loss=state.first_loss,
        final_loss=state.final_loss,
        baseline_loss=state.baseline_loss,
        best_validation_loss=state.best_loss,
        best_validation_step=state.best_step,
        tokens_per_second=spent.tokens / spent.step_seconds if spent.step_seconds else 0.0,
        trained_tokens=state.trained_tokens,
        peak_memory=spent.peak,
        seconds=spent.seconds,
        adapter_path=folder,
        since_step=spent.since,
    )

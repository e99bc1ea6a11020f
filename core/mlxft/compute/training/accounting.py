"""What a run reports about itself: its latest steps, its cost, and its summary."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

from mlxft.compute import backend
from mlxft.compute.training.state import Spent, TrainingState
from mlxft.compute.training.step import StepResult
from mlxft.runs import events as ev

Reason = Literal["completed", "early_stopped", "stopped"]


class ReportWindow:
    """The steps since the last report."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._tokens = 0
        self._seconds = 0.0

    def add(self, result: StepResult, seconds: float) -> None:
        """Count a step."""
        self._losses.append(result.loss)
        self._tokens += result.tokens
        self._seconds += seconds

    @property
    def loss(self) -> float | None:
        """Mean loss of the steps; None without any."""
        return sum(self._losses) / len(self._losses) if self._losses else None

    def report(self, state: TrainingState, learning_rate: float) -> ev.TrainReported:
        """The report of these steps, of which there must be one at least."""
        assert self.loss is not None
        memory = backend.memory()
        return ev.TrainReported(
            step=state.step,
            loss=self.loss,
            learning_rate=learning_rate,
            steps_per_second=len(self._losses) / self._seconds,
            tokens_per_second=self._tokens / self._seconds,
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
        )


def summary(state: TrainingState, spent: Spent, reason: Reason, folder: str) -> ev.RunFinished:
    """How a run went, over all its sessions."""
    return ev.RunFinished(
        reason=reason,
        step=state.step,
        first_loss=state.first_loss,
        final_loss=state.final_loss,
        best_validation_loss=state.best_loss,
        best_validation_step=state.best_step,
        tokens_per_second=spent.tokens / spent.step_seconds if spent.step_seconds else 0.0,
        trained_tokens=state.trained_tokens,
        peak_memory=spent.peak,
        seconds=spent.seconds,
        adapter_path=folder,
        since_step=spent.since,
    )

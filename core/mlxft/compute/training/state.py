"""Where a run is, besides its arrays: what a checkpoint stores and each step replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from mlxft.compute.training.step import StepResult
from mlxft.recipe import Recipe

# Dataclasses, not Structs: mypy checks the field names given to `dataclasses.replace`.


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a run has taken from step `since` on, over all its sessions.

    `step_seconds` is the part of `seconds` spent in steps; `peak` is MLX's peak memory in bytes,
    `training_peak` that without answers and with the recipe as it is.
    """

    since: int = 0
    tokens: int = 0
    step_seconds: float = 0.0
    seconds: float = 0.0
    peak: int = 0
    training_peak: int = 0


@dataclass(frozen=True, kw_only=True)
class ReportWindow:
    """The steps since the last report."""

    steps: int = 0
    loss_sum: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def loss(self) -> float | None:
        """Mean loss of the steps; None without any."""
        return self.loss_sum / self.steps if self.steps else None

    def after(self, result: StepResult, seconds: float) -> ReportWindow:
        """The window with one more step."""
        return ReportWindow(
            steps=self.steps + 1,
            loss_sum=self.loss_sum + result.loss,
            tokens=self.tokens + result.tokens,
            seconds=self.seconds + seconds,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Progress of a run; `step` is also the position in the batch plan."""

    step: int = 0
    updates: int = 0
    trained_tokens: int = 0
    first_loss: float | None = None
    final_loss: float | None = None
    """Mean loss of the latest steps, as reported."""
    baseline_loss: float | None = None
    """The validation loss before the first step; None without one."""
    best_loss: float | None = None
    best_step: int | None = None
    validated_step: int | None = None
    validations_since_best: int = 0
    """Counts the scheduled validations only."""
    validation_waits: bool = False
    """Whether a validation is due after this step and not done yet."""
    sample_waits: bool = False
    """Whether a sample is due after this step and not answered yet."""
    data: int | None = None
    """Checksum of the tokenized training set; None in old checkpoints."""
    started: datetime | None = None
    """When the run was first started, for chat templates that write the date; None in old
    checkpoints."""
    rate_factor: float = 1.0
    """Multiplies the schedule's rate; other than 1 once the rate was changed manually."""
    rate_changes: int | None = None
    """How often it was changed manually; None in old checkpoints."""
    ranks: int = 1
    """The processes that train."""
    spent: Spent | None = None
    """None in old checkpoints only."""
    window: ReportWindow = ReportWindow()

    def is_validation_due(self, recipe: Recipe) -> bool:
        """Whether the recipe schedules a validation after this step; 0 is before the first."""
        return recipe.val_at_start if self.step == 0 else validates_after(self.step, recipe)

    def has_lost_patience(self, recipe: Recipe) -> bool:
        """Whether early stopping applies: too many validations in a row without a best."""
        return 0 < recipe.early_stopping <= self.validations_since_best

    def after_step(
        self,
        result: StepResult,
        *,
        seconds: float,
        is_update: bool,
        sample_due: bool,
        validation_due: bool,
    ) -> TrainingState:
        """The state once the next step is trained."""
        spent = self.spent or Spent(since=self.step)
        return replace(
            self,
            step=self.step + 1,
            updates=self.updates + is_update,
            trained_tokens=self.trained_tokens + result.tokens,
            first_loss=result.loss if self.first_loss is None else self.first_loss,
            sample_waits=sample_due,
            validation_waits=validation_due,
            spent=replace(
                spent,
                tokens=spent.tokens + result.tokens,
                step_seconds=spent.step_seconds + seconds,
            ),
            window=self.window.after(result, seconds),
        )

    def after_validation(self, loss: float, *, is_scheduled: bool) -> TrainingState:
        """The state once this step is validated; only a trained step with a finite loss can be the
        best."""
        if self.step == 0:
            return replace(self, baseline_loss=loss, validated_step=0)
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            return replace(
                self,
                best_loss=loss,
                best_step=self.step,
                validated_step=self.step,
                validations_since_best=0,
                validation_waits=False,
            )
        return replace(
            self,
            validated_step=self.step,
            validations_since_best=self.validations_since_best + is_scheduled,
            validation_waits=False,
        )


def validates_after(step: int, recipe: Recipe) -> bool:
    """Whether the recipe schedules a validation after a trained step."""
    return step % recipe.steps_per_eval == 0 or step == recipe.iters

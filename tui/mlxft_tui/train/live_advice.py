"""Advice after a run's end, and commands that follow advice; the rules are in `mlxft.advice`."""

from __future__ import annotations

from mlxft.advice.after_run import after_end, after_failure, after_validation
from mlxft.advice.types import Advice
from mlxft.engine.protocol import SetLearningRate, Stop
from mlxft.runs.events import RunFailed, RunFinished
from mlxft.runs.followed import FollowedRun
from mlxft.runs.view import RunView


def after_ending(run: FollowedRun) -> Advice | None:
    """Advice after a failure, or after a run that ended with an unusable loss."""
    view, recipe = run.view, run.recipe
    if run.state == "lost":
        return after_failure(run.died_of, recipe)
    match view.ending:
        case RunFailed(cause=cause, learning_rate=rate):
            return after_failure(cause, recipe, rate)
        case RunFinished(first_loss=float(began)):
            diverged = after_end(began, view.loss, recipe) if view.loss is not None else None
            return diverged or _after_validation(view)
        case _:
            return None


def _after_validation(view: RunView) -> Advice | None:
    before, best = view.baseline, view.best_validation
    return after_validation(before.loss, best.loss) if before and best else None


def command_of(advice: Advice | None) -> SetLearningRate | Stop | None:
    """The command that follows the advice; None if the run must be restarted for it."""
    if advice is None:
        return None
    if advice.topic in ("overfitting", "diverged"):
        return Stop()
    if advice.change is None or advice.change[0] != "learning_rate":
        return None
    return SetLearningRate(float(f"{advice.change[1]:.3g}"))

"""What a running job's own figures advise; the rules are the core's."""

from __future__ import annotations

from collections.abc import Sequence

from mlxft.advice import Advice, after_failure, during_run
from mlxft.engine.protocol import SetLearningRate, Stop
from mlxft.recipe import Recipe
from mlxft.runs.events import LearningRateChanged, RunFailed
from mlxft.runs.steps import EXACT
from mlxft.runs.view import RunView, recent
from mlxft.telemetry.sample import Sample


def advise(view: RunView, samples: Sequence[Sample], recipe: Recipe) -> Advice | None:
    """The most pressing advice; losses count from where the rate was last changed by hand.

    `samples` are the latest looks at the machine.
    """
    changes = [each.step for each in view.log if isinstance(each, LearningRateChanged)]
    after = changes[-1] if changes else 0
    latest = zip(view.steps.step[-EXACT:], view.steps.loss[-EXACT:], strict=True)
    losses = [loss for step, loss in latest if step > after]
    rate = view.steps.learning_rate[-1] if view.steps.learning_rate else None
    on_metal = view.backend is not None and view.backend.kind == "metal"
    seconds = recent(view, view.steps.seconds) if on_metal else ()
    first = [view.first_machine.sample] if view.first_machine else []
    looks = [*first, *samples]
    found = during_run(losses, view.validations, looks, rate, recipe, seconds, after)
    return found[0] if found else None


def after_ending(view: RunView, recipe: Recipe) -> Advice | None:
    """What the last words of a run that failed advise."""
    ending = view.ending
    if not isinstance(ending, RunFailed):
        return None
    return after_failure(ending.message, recipe, ending.learning_rate)


def command_of(advice: Advice | None) -> SetLearningRate | Stop | None:
    """The command that follows the advice; None where the running job can't."""
    if advice is None:
        return None
    if advice.kind == "overfitting":
        return Stop()
    if advice.change is None or advice.change[0] != "learning_rate":
        return None
    return SetLearningRate(float(f"{advice.change[1]:.3g}"))

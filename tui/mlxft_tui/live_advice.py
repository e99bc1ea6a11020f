"""What a running job's own figures advise; the rules are the core's."""

from __future__ import annotations

from collections.abc import Sequence

from mlxft.advice import Advice, during_run
from mlxft.engine.protocol import SetLearningRate
from mlxft.runs.events import LearningRateChanged
from mlxft.runs.view import RunView
from mlxft.telemetry.sample import Sample

STEPS = 2000
"""The latest steps that are looked at; the rules need far fewer."""


def advise(view: RunView, samples: Sequence[Sample]) -> Advice | None:
    """The most pressing advice; losses count from where the rate was last changed by hand."""
    changes = [each.step for each in view.log if isinstance(each, LearningRateChanged)]
    after = changes[-1] if changes else 0
    recent = zip(view.steps.step[-STEPS:], view.steps.loss[-STEPS:], strict=True)
    losses = [loss for step, loss in recent if step > after]
    rate = view.steps.learning_rate[-1] if view.steps.learning_rate else None
    found = during_run(losses, view.validations, samples, rate)
    return found[0] if found else None


def command_of(advice: Advice | None) -> SetLearningRate | None:
    """The command that follows the advice; None where the running job can't."""
    if advice is None or advice.change is None or advice.change[0] != "learning_rate":
        return None
    return SetLearningRate(float(f"{advice.change[1]:.3g}"))

"""Advice on a live run, as its view shows it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mlxft.advice.during_run import SPIKE_STEPS, during_run
from mlxft.advice.types import Advice, PreferenceCurves, RateChange
from mlxft.recipe import Recipe
from mlxft.runs.steps import EXACT, Steps
from mlxft.runs.view import RunView, recent
from mlxft.telemetry.sample import Sample


def advise(view: RunView, samples: Sequence[Sample], recipe: Recipe) -> Advice | None:
    """The most urgent advice, judging losses since the last manual change of the learning rate.

    `samples` are the latest of the machine.
    """
    steps, changed = view.steps, _last_change(view)
    latest = zip(steps.step[-EXACT:], steps.loss[-EXACT:], strict=True)
    on_metal = view.backend is not None and view.backend.kind == "metal"
    first = [view.first_machine.sample] if view.first_machine else []
    found = during_run(
        [loss for step, loss in latest if changed is None or step > changed.step],
        view.validations,
        samples=[*first, *samples],
        learning_rate=steps.learning_rate[-1] if steps.learning_rate else None,
        recipe=recipe,
        metal_seconds=recent(view, steps.seconds) if on_metal else (),
        changed=changed,
        beginning=steps.loss[:SPIKE_STEPS],
        gradients=recent(view, steps.gradient_norm),
        preference=_preference(steps),
    )
    return found[0] if found else None


def _preference(steps: Steps) -> PreferenceCurves | None:
    """What the steps say of a preference; None with the loss sft."""
    if not steps.accuracy:
        return None
    return PreferenceCurves(
        margin=steps.margin,
        accuracy=steps.accuracy,
        chosen_reward=steps.chosen_reward,
        rejected_reward=steps.rejected_reward,
        chosen_logp=steps.chosen_logp,
    )


def _last_change(view: RunView) -> RateChange | None:
    if not view.rate_changes:
        return None
    last, steps = view.rate_changes[-1], view.steps
    before = bisect_right(steps.step, last.step) - 1
    lowered = before >= 0 and last.learning_rate < steps.learning_rate[before]
    return RateChange(last.step, lowered)

"""What the self-test's peaks teach the estimator: its error before and after."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mlxft import recipe as recipes
from mlxft.errors import ModelError, RecipeError
from mlxft.memory.calibration import (
    MeasuredPeak,
    calibration_for,
    corrected_estimate,
    learned_from,
)
from mlxft.memory.estimator import estimate
from mlxft.memory.shapes import ModelShapes


class Calibrated(msgspec.Struct, frozen=True):
    """Relative errors of one peak's estimate: plain, and corrected by the peaks of other models."""

    run: str
    before: float
    after: float


def calibrated(peaks: Sequence[MeasuredPeak]) -> list[Calibrated]:
    """Each peak's errors; those of models that can't be estimated are left out.

    No model's peaks correct its own estimates, so this is what they do for models to come.
    """
    found = []
    for peak in peaks:
        try:
            shapes = ModelShapes.from_config(peak.config)
            recipe = recipes.from_run(peak.recipe)
        except (ModelError, RecipeError):
            continue
        others = [each for each in peaks if each.config != peak.config]
        learned = calibration_for(shapes, peak.kind, peak.mlx, others)
        plain = estimate(shapes, recipe, peak.kind, None, peak.longest)
        after = corrected_estimate(
            shapes, recipe, peak.kind, None, longest=peak.longest, calibration=learned
        )
        found.append(
            Calibrated(peak.run, plain.peak / peak.measured - 1, after.peak / peak.measured - 1)
        )
    return found


def summary(errors: Sequence[Calibrated]) -> str:
    """The errors in one sentence."""
    before, after = ([abs(getattr(each, name)) for each in errors] for name in ("before", "after"))
    if not errors:
        return "no peak to learn from"
    count = f"{len(errors)} peak{'' if len(errors) == 1 else 's'}"
    return (
        f"{count}: estimates off by {_mean(before):.1%} on average and "
        f"{max(before):.1%} at most; corrected by those of other models {_mean(after):.1%} and "
        f"{max(after):.1%}"
    )


def corrected_parts(peaks: Sequence[MeasuredPeak]) -> str:
    """What all of these peaks correct of other models' estimates, in words."""
    found = learned_from(peaks)
    if not found.peaks:
        return "nothing: no correction makes the estimates of other models clearly better"
    return ", ".join(f"{part} ×{factor:.2f}" for part, factor in found.corrections.parts.items())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

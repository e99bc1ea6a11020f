"""What runs did over their steps."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final, Literal

from mlxft.runs.directory import RunDirectory
from mlxft.runs.events import SampleAnswered
from mlxft.runs.kept_view import compared_view
from mlxft.runs.steps import Steps
from mlxft.runs.view import RunView

Measure = Literal["loss", "validation", "learning_rate", "gradient", "memory"]

_COLUMNS: Final[dict[Measure, str]] = {
    "loss": "mean_loss",
    "learning_rate": "learning_rate",
    "gradient": "gradient_norm",
    "memory": "peak_memory",
}


@dataclass(frozen=True, eq=False)
class Curves:
    """The points of a run's steps and validations, and its samples."""

    steps: Steps
    validations: tuple[tuple[int, float], ...]
    """Steps and losses; step 0 is before training."""
    samples: tuple[SampleAnswered, ...] = ()

    def points(self, measure: Measure) -> tuple[array[float], array[float]]:
        """Steps, and a measure at each: NaN where a step says nothing of it; memory in bytes."""
        if measure != "validation":
            return self.steps.step, getattr(self.steps, _COLUMNS[measure])
        steps, losses = zip(*self.validations, strict=True) if self.validations else ((), ())
        return array("d", steps), array("d", losses)


def read_curves(run: RunDirectory) -> Curves:
    """A run's curves; of a long journal only what was written since the last call is read."""
    return curves_of(compared_view(run))


def curves_of(view: RunView) -> Curves:
    """The curves of a view."""
    validations = tuple((each.step, each.loss) for each in view.validations)
    return Curves(view.steps, validations, view.samples)

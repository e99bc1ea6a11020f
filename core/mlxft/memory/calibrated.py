"""Memory estimates of a model's recipes on a device, calibrated by this machine's past runs."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mlxft.data.batch_plan import padded_width, rounding_on
from mlxft.memory.calibration import (
    Calibration,
    calibration_for,
    corrected_estimate,
    remembered_peaks,
)
from mlxft.memory.confidence import AttentionAssumption
from mlxft.recipe import Recipe

if TYPE_CHECKING:
    from mlxft.memory.estimator import MemoryEstimate
    from mlxft.memory.fitted import BackendKind
    from mlxft.memory.shapes import ModelShapes


NOTABLE: Final = 1.02
"""A total this many times another is worth a line of its own."""


@dataclass(frozen=True)
class CalibratedEstimator:
    """Estimates recipes of one model on one device.

    `limit` is in bytes, `longest` the tokens of the longest record if the data is known.
    """

    shapes: ModelShapes
    kind: BackendKind
    limit: int | None
    longest: int | None = None
    calibration: Calibration = field(default_factory=Calibration)

    def estimate(self, recipe: Recipe) -> MemoryEstimate:
        """The memory of a recipe."""
        return self._estimate(self.shapes, recipe)

    def attention(self, recipe: Recipe) -> AttentionAssumption:
        """The attention that the estimate of a recipe counts on."""
        certain = self.kind != "metal" or recipe.packing or bool(self.calibration.runs)
        other = None
        if not certain:
            kept = self._estimate(self.shapes.with_kept_scores(), recipe).total
            other = kept if kept > NOTABLE * self._estimate(self.shapes, recipe).total else None
        return AttentionAssumption(
            kind=self.kind, packed=recipe.packing, certain=certain, otherwise=other
        )

    def _estimate(self, shapes: ModelShapes, recipe: Recipe) -> MemoryEstimate:
        rounding = rounding_on(self.kind)
        longest, limit = self.longest, recipe.max_seq_length
        width = padded_width(longest, limit, rounding) if longest else None
        return corrected_estimate(
            shapes,
            recipe,
            self.kind,
            self.limit,
            longest=width,
            calibration=self.calibration,
        )


def load_calibration(shapes: ModelShapes, kind: BackendKind) -> Calibration:
    """The calibration of a model by this machine's past runs. Reads a file: call it in a thread."""
    return calibration_for(shapes, kind, _mlx_version(), remembered_peaks())


def _mlx_version() -> str:
    try:
        return importlib.metadata.version("mlx")
    except importlib.metadata.PackageNotFoundError:
        return ""

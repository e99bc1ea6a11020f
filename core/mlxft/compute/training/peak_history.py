"""Records a finished run's peak memory to calibrate later estimates."""

from __future__ import annotations

import time

from mlxft.compute import backend
from mlxft.compute.training.batches import ROUNDING
from mlxft.compute.training.preparation import Prepared
from mlxft.data.batch_plan import padded_width
from mlxft.errors import ModelError
from mlxft.memory.calibration import measured_peak, remember
from mlxft.recipe import Recipe
from mlxft.runs.directory import RunDirectory


def remember_peak(
    directory: RunDirectory, recipe: Recipe, prepared: Prepared, measured: int
) -> None:
    """Record the run's measured peak in bytes, unless the model's family is unknown."""
    try:
        peak = measured_peak(
            run=str(directory.path),
            recipe=recipe,
            config=prepared.loaded.config,
            longest=padded_width(prepared.train.longest, recipe.max_seq_length, ROUNDING),
            kind=backend.kind(),
            device=backend.device_name(),
            mlx=backend.versions()["mlx"],
            measured=measured,
            time=time.time(),
        )
    except ModelError:
        return
    remember(peak)

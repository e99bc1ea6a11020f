"""What this machine's finished runs teach the estimator."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft import recipe as recipes
from mlxft.errors import ModelError, RecipeError
from mlxft.memory.estimator import Kind, MemoryEstimate, estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.paths import peaks_file
from mlxft.recipe import Recipe

LEAST: Final = 0.5
MOST: Final = 3.0
"""A correction outside of these is not the estimator's error but another kind of run."""

REACH: Final = 3.0
"""Doublings of activations and loss over which what a run teaches fades to a third."""

FEWEST_OTHERS: Final = 3
"""Runs of other models that are needed to correct a model's estimate."""

KEPT_PEAKS: Final = 100
"""Peaks that are remembered, the newest ones."""

ERRORS: Final[dict[Kind, float | None]] = {"cpu": 0.15, "cuda": 0.15, "metal": None}
"""The share by which estimates may be off before any run, as ``benchmarks/estimator.py`` measures
it; None where nobody has measured it yet."""


class MeasuredPeak(msgspec.Struct, frozen=True):
    """A finished run, as it is remembered: all that an estimate of it needs, and what it took.

    `config` is the model's config.json, `longest` the padded tokens of the longest row; `estimated`
    and `measured` are bytes of MLX's peak.
    """

    time: float
    run: str
    model: str
    config: dict[str, Any]
    recipe: dict[str, Any]
    longest: int
    kind: Kind
    device: str
    mlx: str
    estimated: int
    measured: int


@dataclass(frozen=True)
class Peak:
    """A finished run: its estimate, and the peak that MLX reported, in bytes."""

    estimate: MemoryEstimate
    measured: int

    @property
    def correction(self) -> float | None:
        """What would have made the estimate right; None where it says nothing.

        Weights, adapter and optimizer are counted, not estimated, so only the rest is corrected.
        """
        guessed = self.estimate.activations + self.estimate.loss
        counted = self.estimate.peak - guessed
        if guessed <= 0 or self.measured <= counted:
            return None
        return (self.measured - counted) / guessed


@dataclass(frozen=True)
class Calibration:
    """What finished runs teach: the factor for activations and loss, and from how many it comes.

    `error` is the share by which the corrected estimates of those runs are still off at most; None
    of fewer than two. `same_model` is False where only runs of other models have been measured.
    `sizes` are the bytes that were expected of activations and loss in each.
    """

    factor: float = 1.0
    runs: int = 0
    error: float | None = None
    same_model: bool = True
    sizes: tuple[int, ...] = ()

    def factor_for(self, guessed: int) -> float:
        """The factor for so many bytes of activations and loss.

        What a run teaches fades with the distance: a thousand times as much is other work.
        """
        if guessed <= 0 or not self.sizes:
            return 1.0
        octaves = min(abs(math.log2(guessed / size)) for size in self.sizes)
        return float(self.factor ** math.exp(-((octaves / REACH) ** 2)))


def calibrated(peaks: Iterable[Peak], *, same_model: bool = True) -> Calibration:
    """The median of the runs' factors, 1 without any.

    Runs in which the guessed part is small say little, so each counts by that part's size.
    """
    known = [
        (factor, peak)
        for peak in peaks
        if (factor := peak.correction) is not None and LEAST <= factor <= MOST
    ]
    if not known:
        return Calibration()
    factor = _weighted_median([(each, _guessed(peak.estimate)) for each, peak in known])
    errors = [abs(_corrected(peak, factor) / peak.measured - 1) for _, peak in known]
    return Calibration(
        factor,
        len(known),
        max(errors) if len(known) > 1 else None,
        same_model,
        tuple(_guessed(peak.estimate) for _, peak in known),
    )


def corrected_estimate(
    shapes: ModelShapes,
    recipe: Recipe,
    kind: Kind,
    limit: int | None,
    longest: int | None,
    learnt: Calibration,
) -> MemoryEstimate:
    """The memory of a training as past runs on this machine let expect it."""
    plain = estimate(shapes, recipe, kind, limit, longest)
    factor = learnt.factor_for(_guessed(plain))
    return plain if factor == 1 else estimate(shapes, recipe, kind, limit, longest, factor)


def _guessed(expected: MemoryEstimate) -> int:
    return expected.activations + expected.loss


def _corrected(peak: Peak, factor: float) -> float:
    return peak.estimate.peak + (factor - 1) * _guessed(peak.estimate)


def _weighted_median(values: list[tuple[float, int]]) -> float:
    ordered = sorted(values)
    if len(ordered) == 2:
        return statistics.fmean(value for value, _ in ordered)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0]


def calibration_for(
    shapes: ModelShapes, kind: Kind, mlx: str, remembered: Iterable[MeasuredPeak]
) -> Calibration:
    """What the remembered runs on this kind of device teach about a model.

    Runs of the same model count before those of others, and runs of the same mlx version before
    those of another.
    """
    read = _Reader()
    here = [(each, peak) for each in remembered if each.kind == kind and (peak := read.peak(each))]
    own = [each for each in here if each[1][0] == _fingerprint(shapes)]
    for same_model, found in ((True, own), (False, here)):
        version = [each for each in found if each[0].mlx == mlx]
        learnt = calibrated((peak for _, (_, peak) in version or found), same_model=same_model)
        if learnt.runs >= (1 if same_model else FEWEST_OTHERS):
            return learnt
    return Calibration()


_Fingerprint = tuple[str, int, int]


def _fingerprint(shapes: ModelShapes) -> _Fingerprint:
    """What tells a model from others wherever its folder is."""
    return shapes.model_type, shapes.parameters, shapes.stored_bytes


class _Reader:
    """Estimates runs anew, since the estimator may have learnt since; each config is read once."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, ModelShapes | None] = {}

    def peak(self, remembered: MeasuredPeak) -> tuple[_Fingerprint, Peak] | None:
        """The model, and the run's peak beside its estimate; None where it can't be estimated."""
        shapes = self._shapes_of(remembered.config)
        try:
            recipe = recipes.from_mapping(remembered.recipe)
        except RecipeError:
            return None
        if shapes is None:
            return None
        expected = estimate(shapes, recipe, remembered.kind, None, remembered.longest)
        return _fingerprint(shapes), Peak(expected, remembered.measured)

    def _shapes_of(self, config: Mapping[str, Any]) -> ModelShapes | None:
        key = msgspec.json.encode(config)
        if key not in self._shapes:
            try:
                self._shapes[key] = ModelShapes.from_config(config)
            except ModelError:
                self._shapes[key] = None
        return self._shapes[key]


def remember(peak: MeasuredPeak) -> None:
    """Keep a finished run for the estimates to come. What can't be written is not kept."""
    file = peaks_file()
    kept = [*remembered_peaks(file)[1 - KEPT_PEAKS :], peak]
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        with open(descriptor, "wb") as temporary:
            temporary.write(b"".join(msgspec.json.encode(each) + b"\n" for each in kept))
        os.replace(name, file)
    except OSError:
        return


def remembered_peaks(file: Path | None = None) -> Sequence[MeasuredPeak]:
    """All runs that were remembered on this machine, the oldest first; lines torn are left out."""
    try:
        lines = (file or peaks_file()).read_bytes().splitlines()
    except OSError:
        return ()
    return [each for line in lines if (each := _decoded(line)) is not None]


_decoder = msgspec.json.Decoder(MeasuredPeak)


def _decoded(line: bytes) -> MeasuredPeak | None:
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError:
        return None


def measured_peak(
    *,
    run: str,
    recipe: Recipe,
    config: Mapping[str, Any],
    longest: int,
    kind: Kind,
    device: str,
    mlx: str,
    measured: int,
    time: float,
) -> MeasuredPeak:
    """A run's peak beside its estimate. Raises `ModelError` for a config that can't be read."""
    expected = estimate(ModelShapes.from_config(config), recipe, kind, None, longest)
    return MeasuredPeak(
        time=time,
        run=run,
        model=recipe.model,
        config=dict(config),
        recipe=recipes.to_mapping(recipe),
        longest=longest,
        kind=kind,
        device=device,
        mlx=mlx,
        estimated=expected.peak,
        measured=measured,
    )

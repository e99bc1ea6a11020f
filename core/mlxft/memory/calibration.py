"""Corrects estimates by the measured peaks of finished runs on this machine."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from mlxft import recipe as recipes
from mlxft.errors import ModelError, RecipeError
from mlxft.memory.estimator import MemoryEstimate, estimate, step_memory
from mlxft.memory.fitted import BackendKind
from mlxft.memory.learning import Learned, Measured, learned
from mlxft.memory.shapes import ModelShapes
from mlxft.memory.step_memory import NONE, Corrections
from mlxft.recipe import Recipe
from mlxft.storage.paths import peaks_file
from mlxft.text import path_json

LEAST: Final = 0.5
MOST: Final = 3.0
"""Corrections outside of this range are not the estimator's error but another kind of run.

A guess may be further off.
"""

REACH: Final = 3.0
"""Doublings of activations and loss over which a run's correction fades to a third."""

MOST_OTHERS: Final = 40
"""Of other models' runs the newest are learned from."""

SELF_TEST: Final = "self-test "
"""How the peaks of a self-test are named; another self-test replaces them."""

KEPT_PEAKS: Final = 100
"""Peaks kept, the newest ones."""

ERRORS: Final[dict[BackendKind, float | None]] = {"cpu": 0.15, "cuda": 0.15, "metal": None}
"""Relative error before any run, as measured by ``benchmarks/estimator.py``; None if not yet
measured."""


class MeasuredPeak(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run on disk: all inputs of its estimate, and its measured peak.

    `config` is the model's config.json, `longest` the padded tokens of the longest row; `estimated`
    and `measured` are MLX's peak in bytes.
    """

    time: float
    run: str
    model: str
    config: dict[str, Any]
    recipe: dict[str, Any]
    longest: int
    kind: BackendKind
    device: str
    mlx: str
    estimated: int
    measured: int


@dataclass(frozen=True)
class Peak:
    """A finished run: its estimate, and MLX's measured peak in bytes."""

    estimate: MemoryEstimate
    measured: int

    @property
    def correction(self) -> float | None:
        """The factor that would have made the estimate right; None if it can't be determined.

        Weights, adapter and optimizer are counted, not estimated, so only the rest is corrected.
        """
        estimated_part = self.estimate.activations + self.estimate.loss
        counted = self.estimate.peak - estimated_part
        if estimated_part <= 0 or self.measured <= counted:
            return None
        return (self.measured - counted) / estimated_part


@dataclass(frozen=True)
class Calibration:
    """What this machine's runs correct, and the number of runs it comes from.

    `corrections` are learned from other models, `factor` on top of them from the model's own runs.
    `error` is the largest relative error of the runs after correction, None with fewer than two;
    of other models' runs, where a run didn't correct itself. `same_model` is False if there are
    only runs of other models. `sizes` are the estimated bytes of activations and loss of each own
    run. Of the `others` so many are `tested`, a self-test's.
    """

    factor: float = 1.0
    runs: int = 0
    error: float | None = None
    same_model: bool = True
    sizes: tuple[int, ...] = ()
    corrections: Corrections = NONE
    others: int = 0
    tested: int = 0

    def factor_for(self, estimated_part: int) -> float:
        """The factor for this many bytes of activations and loss.

        It fades with the distance from the runs' sizes: a thousand times as much is other work.
        """
        if estimated_part <= 0 or not self.sizes:
            return 1.0
        octaves = min(abs(math.log2(estimated_part / size)) for size in self.sizes)
        return float(self.factor ** math.exp(-((octaves / REACH) ** 2)))


def calibrated(peaks: Iterable[Peak]) -> Calibration:
    """The median factor of a model's runs, weighted by the size of what was estimated."""
    known = [
        (factor, peak)
        for peak in peaks
        if (factor := peak.correction) is not None
        and (LEAST <= factor <= MOST or not peak.estimate.known_family)
    ]
    if not known:
        return Calibration()
    factor = _weighted_median([(each, _estimated_part(peak.estimate)) for each, peak in known])
    errors = [abs(_corrected(peak, factor) / peak.measured - 1) for _, peak in known]
    return Calibration(
        factor,
        len(known),
        max(errors) if len(known) > 1 else None,
        sizes=tuple(_estimated_part(peak.estimate) for _, peak in known),
    )


def corrected_estimate(
    shapes: ModelShapes,
    recipe: Recipe,
    kind: BackendKind,
    limit: int | None,
    *,
    longest: int | None,
    calibration: Calibration,
) -> MemoryEstimate:
    """The estimate, corrected by past runs on this machine."""
    corrections = calibration.corrections
    plain = estimate(shapes, recipe, kind, limit, longest, corrections=corrections)
    factor = calibration.factor_for(_estimated_part(plain))
    if factor == 1:
        return plain
    return estimate(shapes, recipe, kind, limit, longest, corrections=corrections.times(factor))


def _estimated_part(expected: MemoryEstimate) -> int:
    return expected.activations + expected.loss


def _corrected(peak: Peak, factor: float) -> float:
    return peak.estimate.peak + (factor - 1) * _estimated_part(peak.estimate)


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
    shapes: ModelShapes, kind: BackendKind, mlx: str, remembered: Iterable[MeasuredPeak]
) -> Calibration:
    """The calibration of a model by the kept runs on this kind of device.

    Runs of other models correct the parts of an estimate, those of the same model what is left.
    Runs of the same mlx version are preferred to others.
    """
    reader, model = _Reader(), _fingerprint(shapes)
    here = [each for each in remembered if each.kind == kind]
    read = [(each, found) for each in here if (found := reader.read(each))]
    own = _of_version([each for each in read if each[1].model == model], mlx)
    # What a guess was off by says nothing about other models, nor do they about a guess.
    others = [each for each in read if each[1].model != model and each[1].shapes.known_family]
    others = _of_version(others if shapes.known_family else [], mlx)[-MOST_OTHERS:]
    lesson = learned([each.measured for _, each in others])
    by = lesson.corrections
    calibration = calibrated(Peak(each.estimate(by), each.measured.peak) for _, each in own)
    tested = sum(each.run.startswith(SELF_TEST) for each, _ in others) if lesson.peaks else 0
    if calibration.runs:
        return replace(calibration, corrections=by, others=lesson.peaks, tested=tested)
    return _by_others(lesson, tested)


def learned_from(remembered: Iterable[MeasuredPeak]) -> Learned:
    """What runs of known families correct of the estimates of models that aren't among them."""
    reader = _Reader()
    read = [found for each in remembered if (found := reader.read(each))]
    return learned([each.measured for each in read if each.shapes.known_family])


def _by_others(found: Learned, tested: int) -> Calibration:
    if not found.peaks:
        return Calibration()
    return Calibration(
        runs=found.peaks,
        error=found.error,
        same_model=False,
        corrections=found.corrections,
        others=found.peaks,
        tested=tested,
    )


_Fingerprint = tuple[str, int, int]


def _fingerprint(shapes: ModelShapes) -> _Fingerprint:
    """What identifies a model wherever its folder is."""
    return shapes.model_type, shapes.parameters, shapes.stored_bytes


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A kept run, read: what its estimate depends on, and its peak."""

    shapes: ModelShapes
    recipe: Recipe
    kind: BackendKind
    longest: int
    measured: Measured

    @property
    def model(self) -> _Fingerprint:
        return _fingerprint(self.shapes)

    def estimate(self, by: Corrections) -> MemoryEstimate:
        """What would be estimated now."""
        return estimate(self.shapes, self.recipe, self.kind, None, self.longest, corrections=by)


_Read = tuple[MeasuredPeak, _Run]


def _of_version(runs: list[_Read], mlx: str) -> list[_Read]:
    return [each for each in runs if each[0].mlx == mlx] or runs


class _Reader:
    """Recomputes estimates, since the estimator may have changed; reads each config once."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, ModelShapes | None] = {}

    def read(self, remembered: MeasuredPeak) -> _Run | None:
        """The run; None if it can't be estimated."""
        shapes = self._shapes_of(remembered.config)
        try:
            recipe = recipes.from_run(remembered.recipe)
        except RecipeError:
            return None
        if shapes is None or remembered.measured <= 0:
            return None
        step = step_memory(shapes, recipe, remembered.kind, remembered.longest)
        return _Run(
            shapes=shapes,
            recipe=recipe,
            kind=remembered.kind,
            longest=remembered.longest,
            measured=Measured(step, remembered.measured, _fingerprint(shapes)),
        )

    def _shapes_of(self, config: Mapping[str, Any]) -> ModelShapes | None:
        key = msgspec.json.encode(config)
        if key not in self._shapes:
            try:
                self._shapes[key] = ModelShapes.from_config(config)
            except ModelError:
                self._shapes[key] = None
        return self._shapes[key]


def remember(peak: MeasuredPeak) -> None:
    """Keep a run for later estimates; ignores a file that can't be written.

    A run that is resumed with its recipe is kept once.
    """
    file = peaks_file()
    others = [each for each in remembered_peaks(file) if not _is_same_run(each, peak)]
    kept = [*others[1 - KEPT_PEAKS :], peak]
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        with open(descriptor, "wb") as temporary:
            temporary.write(b"".join(path_json.encode(each) + b"\n" for each in kept))
        os.replace(name, file)
    except OSError:
        return


def _is_same_run(one: MeasuredPeak, other: MeasuredPeak) -> bool:
    return (one.run, one.recipe) == (other.run, other.recipe)


def remembered_peaks(file: Path | None = None) -> Sequence[MeasuredPeak]:
    """All runs kept on this machine, the oldest first; damaged lines are skipped."""
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
    kind: BackendKind,
    device: str,
    mlx: str,
    measured: int,
    time: float,
) -> MeasuredPeak:
    """A run's peak with its estimate. Raises `ModelError` for an invalid config."""
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

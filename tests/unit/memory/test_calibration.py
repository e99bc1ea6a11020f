"""Which finished runs are kept, and which of them calibrate a model."""

from __future__ import annotations

from typing import Any

import pytest

from mlxft.memory.calibration import (
    KEPT_PEAKS,
    Calibration,
    MeasuredPeak,
    calibration_for,
    corrected_estimate,
    measured_peak,
    remember,
    remembered_peaks,
)
from mlxft.memory.estimator import estimate
from mlxft.memory.fitted import BackendKind
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe, replace
from mlxft.storage.paths import peaks_file
from support.records import SMOLLM2

OTHER: dict[str, Any] = {**SMOLLM2, "num_hidden_layers": 12}
RECIPE = Recipe(model="models/small", num_layers=8)


def finished(
    share: float,
    config: dict[str, Any] = SMOLLM2,
    kind: BackendKind = "cpu",
    mlx: str = "0.32.4",
    run: str = "",
) -> MeasuredPeak:
    """A run whose activations and loss took this share of the estimate."""
    expected = estimate(ModelShapes.from_config(config), RECIPE, kind, None, 257)
    guessed = expected.activations + expected.loss
    return measured_peak(
        run=run or f"adapters/{share}",
        recipe=RECIPE,
        config=config,
        longest=257,
        kind=kind,
        device="here",
        mlx=mlx,
        measured=round(expected.peak + (share - 1) * guessed),
        time=1.0,
    )


def calibration(*peaks: MeasuredPeak) -> Calibration:
    return calibration_for(ModelShapes.from_config(SMOLLM2), "cpu", "0.32.4", peaks)


class TestKeeping:
    def test_a_kept_run_is_read_back(self) -> None:
        assert list(remembered_peaks()) == []
        for share in (1.1, 1.2):
            remember(finished(share))
        found = remembered_peaks()
        assert list(found) == [finished(1.1), finished(1.2)]
        assert found[0].estimated < found[0].measured
        assert (found[0].mlx, found[0].device) == ("0.32.4", "here")

    def test_a_resumed_run_is_kept_once(self) -> None:
        for share, run in ((1.1, "a"), (1.2, "b"), (1.3, "a")):
            remember(finished(share, run=run))
        assert list(remembered_peaks()) == [finished(1.2, run="b"), finished(1.3, run="a")]

    def test_only_the_newest_are_kept(self) -> None:
        line = peaks_file()
        remember(finished(1.1))
        line.write_bytes(line.read_bytes() * (KEPT_PEAKS + 20))
        remember(finished(1.3))
        found = remembered_peaks()
        assert len(found) == KEPT_PEAKS
        assert found[-1] == finished(1.3)

    def test_a_damaged_line_is_skipped(self) -> None:
        remember(finished(1.1))
        with peaks_file().open("ab") as file:
            file.write(b'{"time": 1, "run"')
        assert list(remembered_peaks()) == [finished(1.1)]

    def test_a_file_that_cannot_be_written_is_ignored(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLXFT_PEAKS", "/proc/none/peaks.jsonl")
        remember(finished(1.1))


class TestCalibration:
    def test_runs_of_the_same_model_are_preferred(self) -> None:
        found = calibration(finished(1.2), finished(2.0, OTHER))
        assert found.factor == pytest.approx(1.2, abs=1e-4)
        assert (found.runs, found.same_model) == (1, True)

    def test_other_models_are_used_without_runs_of_its_own(self) -> None:
        assert calibration(finished(1.4, OTHER)) == Calibration()
        found = calibration(*[finished(1.4, OTHER)] * 3)
        assert (found.runs, found.same_model, found.factor) == (3, False, 1.0)
        shapes = ModelShapes.from_config(SMOLLM2)
        plain, corrected = (
            corrected_estimate(shapes, RECIPE, "cpu", None, longest=257, calibration=each)
            for each in (Calibration(), found)
        )
        part, more = (each.activations + each.loss for each in (plain, corrected))
        assert 1.35 < more / part < 1.45
        assert (corrected.weights, corrected.optimizer) == (plain.weights, plain.optimizer)

    def test_a_guess_is_corrected_by_its_own_runs_alone_however_far_off(self) -> None:
        guessed = {**SMOLLM2, "model_type": "newcomer"}
        shapes = ModelShapes.from_config(guessed)
        own = finished(40.0, guessed)
        known = [finished(1.2, OTHER)] * 3
        assert calibration_for(shapes, "cpu", "0.32.4", [own, *known]).factor == pytest.approx(40)
        assert calibration_for(shapes, "cpu", "0.32.4", known).runs == 0
        assert calibration(*[finished(40.0, guessed)] * 3).runs == 0

    def test_another_kind_of_device_is_ignored(self) -> None:
        assert calibration(finished(1.4, kind="cuda")) == Calibration()

    def test_a_small_run_hardly_corrects_a_large_one(self) -> None:
        found = calibration(finished(1.5))
        (size,) = found.sizes
        factors = [found.factor_for(times * size) for times in (1, 4, 16, 1000)]
        assert factors == sorted(factors, reverse=True)
        assert factors[0] == pytest.approx(1.5, abs=1e-3)
        assert factors[-1] == pytest.approx(1.0, abs=1e-3)

    @pytest.mark.parametrize("share", [0.6, 1.3, 2.9])
    def test_a_larger_batch_never_needs_less_at_any_distance(self, share: float) -> None:
        found, shapes = calibration(finished(share)), ModelShapes.from_config(SMOLLM2)
        totals = [
            corrected_estimate(
                shapes,
                replace(RECIPE, "batch_size", size),
                "cpu",
                None,
                longest=None,
                calibration=found,
            ).total
            for size in range(1, 120)
        ]
        assert totals == sorted(totals)

    def test_runs_of_this_mlx_version_are_preferred(self) -> None:
        found = calibration(finished(1.2), finished(2.0, mlx="0.31.0"))
        assert found.factor == pytest.approx(1.2, abs=1e-4)
        assert calibration(finished(1.5, mlx="0.31.0")).factor == pytest.approx(1.5, abs=1e-4)

"""Which measurements the self-test calls different."""

from __future__ import annotations

import pytest

from mlxft.memory.calibration import MeasuredPeak
from mlxft.memory.fitted import BackendKind
from mlxft.self_test.checks import estimate_check, largest_error


@pytest.mark.parametrize(
    ("kind", "estimated", "measured", "outcome"),
    [
        ("cpu", 34_000_000, 51_000_000, "differs"),
        ("cuda", 34_000_000, 51_000_000, "passed"),
        ("metal", 340_000_000, 510_000_000, "differs"),
    ],
)
def test_a_gpus_command_buffers_are_most_of_a_tiny_models_peak(
    kind: BackendKind, estimated: int, measured: int, outcome: str
) -> None:
    peak = MeasuredPeak(
        time=0,
        run="self-test",
        model="tiny",
        config={},
        recipe={},
        longest=64,
        kind=kind,
        device="device",
        mlx="0.32.4",
        estimated=estimated,
        measured=measured,
    )
    found = estimate_check("tiny", peak.estimated, peak.measured, largest_error(peak))
    assert found.outcome == outcome

"""A benchmark beside busy processes."""

from __future__ import annotations

import pytest

from mlxft.compute.generation.benchmark import repeated
from mlxft.conversation.benchmark import SpeedRun


@pytest.mark.parametrize(
    ("others", "kept"),
    [
        ([0.0, 0.0, 0.0], 2),
        ([0.5, 0.0, 0.0, 0.0], 3),
        ([0.5, 0.5, 0.0, 0.5, 0.0], 4),
    ],
)
def test_a_disturbed_run_is_repeated_up_to_a_limit(others: list[float], kept: int) -> None:
    shares = iter(others)
    runs = list(repeated(lambda: SpeedRun(1.0, 1.0, 1, next(shares)), 2))
    assert [each.others for each in runs] == others[:kept]

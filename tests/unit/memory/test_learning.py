"""What measured peaks of some models correct of the estimates of others."""

from __future__ import annotations

import pytest

from mlxft.doctor.self_test.plan import plan_for
from mlxft.memory.calibration import Calibration
from mlxft.memory.confidence import Assumptions
from mlxft.memory.estimator import step_memory
from mlxft.memory.learning import Measured, learned
from mlxft.memory.shapes import ModelShapes
from mlxft.memory.step_memory import NONE, Corrections, StepMemory
from mlxft.recipe import Recipe, apply_settings
from support.records import SMOLLM2

STEPS = [
    (
        each.name,
        step_memory(
            ModelShapes.from_config(each.config),
            apply_settings(Recipe(), each.settings),
            "cpu",
            each.tokens + 1,
        ),
    )
    for each in plan_for("cpu").points
]
"""The steps that a self-test measures."""


def on(truth: Corrections, scatter: tuple[float, ...] = (0.0,)) -> list[Measured]:
    """A machine on which steps take what these corrections say, give or take some."""
    return [
        Measured(step, round(step.peak(truth) * (1 + scatter[at % len(scatter)])), name)
        for at, (name, step) in enumerate(STEPS)
    ]


def another_model() -> StepMemory:
    recipe = apply_settings(Recipe(), ("batch_size=4", "num_layers=8"))
    return step_memory(ModelShapes.from_config(SMOLLM2), recipe, "cpu", 513)


@pytest.mark.parametrize(
    "truth",
    [
        Corrections().times(1.43),
        Corrections(kept=1.43),
        Corrections(worked=0.7),
        Corrections(kept=0.8, loss=1.3),
    ],
)
def test_a_self_test_finds_which_part_is_off(truth: Corrections) -> None:
    found, step = learned(on(truth, (0.01, -0.01, 0.015, 0.0, -0.015))), another_model()
    before = abs(step.peak() / step.peak(truth) - 1)
    after = abs(step.peak(found.corrections) / step.peak(truth) - 1)
    assert found.peaks == len(STEPS)
    assert after < min(0.02, 0.5 * before)


def test_scatter_that_says_nothing_of_other_models_corrects_nothing() -> None:
    by_model = {name: 0.03 * (at % 2 or -1) for at, (name, _) in enumerate(STEPS[::4])}
    peaks = [
        Measured(step, round(step.peak() * (1 + by_model[name])), name) for name, step in STEPS
    ]
    assert learned(peaks).corrections == NONE


def test_one_run_that_is_far_off_hardly_counts() -> None:
    peaks = on(NONE)
    odd = Measured(peaks[0].step, 3 * peaks[0].peak, "odd")
    step = another_model()
    assert step.peak(learned([*peaks, odd]).corrections) == pytest.approx(step.peak(), rel=0.03)


def test_the_corrected_parts_are_named() -> None:
    found = Calibration(corrections=Corrections(kept=1.43, loss=0.9), others=14, tested=12)
    (line,) = Assumptions(kind="cpu", calibration=found).lines
    assert line == (
        "corrected by the self-test and 2 runs of other models: activations ×1.43, loss ×0.90"
    )
    assert Assumptions(kind="cpu").lines == []

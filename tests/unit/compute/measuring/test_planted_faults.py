"""Each fault that is planted is found, and nothing is found where there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import pytest

from mlxft.compute.measuring import gradients, products, steps
from mlxft.compute.training import numpy_loss
from mlxft.compute.training.checkpoint import examined
from mlxft.doctor.self_test import disk
from mlxft.doctor.self_test.parts import Context, peak_of_step
from mlxft.doctor.self_test.plan import Plan, llama, plan_for
from mlxft.doctor.self_test.runs import Bench, tear_newest_checkpoint
from mlxft.doctor.self_test.tools import MAC_TOOLS, answers_of_tools
from mlxft.doctor.self_test.watch import Watch
from mlxft.memory.calibration import remembered_peaks
from mlxft.memory.estimator import estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe, apply_settings
from mlxft.self_test import checks
from mlxft.self_test.calibration import calibrated
from mlxft.self_test.checks import Check
from mlxft.self_test.figures import (
    Device,
    GradientFigures,
    GradientRequest,
    ProductRequest,
    StepFigures,
    StepPoint,
)
from mlxft.telemetry.apple import IOREG, SYSCTL, VM_STAT, Command
from support import macs
from support.training import MakeRun

CPU = Device(kind="cpu", name="a CPU", mlx="0.32.4")
SMALL = GradientRequest(form="causal", head=32, tokens=75, lengths=(256, 512))


def outcomes(found: Sequence[Check]) -> list[str]:
    return [each.outcome for each in found]


class TestAWrongKernelResult:
    @pytest.mark.parametrize("form", ["causal", "packed"])
    def test_attention_as_it_is_passes(self, form: str) -> None:
        found = gradients.measure(msgspec.structs.replace(SMALL, form=form))
        assert outcomes(checks.gradient_checks(found)) == ["passed", "passed"]
        # MLX's own keeps the scores on a CPU, and the measurement shows it.
        assert found.own[1] - 2 * found.own[0] > checks.KEPT_SHARE * found.kept

    def test_a_delta_net_passes(self) -> None:
        request = GradientRequest(form="recurrence", head=32, tokens=70, lengths=(64, 96))
        assert outcomes(checks.gradient_checks(gradients.measure(request)))[0] == "passed"

    def test_one_percent_too_much_is_found(self) -> None:
        mx.random.seed(0)
        arrays = [mx.random.normal((1, heads, 40, 16)) for heads in (4, 2, 2)]
        mask = mx.tril(mx.ones((40, 40), mx.bool_))

        def plain(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
            return gradients.plain_attention(q, k, v, 0.25, mask)

        def wrong(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
            return 1.01 * plain(q, k, v)

        off = gradients.difference(wrong, plain, arrays, mx.float32)
        assert gradients.difference(plain, plain, arrays, mx.float32) < 1e-6
        (check, _) = checks.gradient_checks(figures(difference=off))
        assert check.outcome == "differs"
        assert "attention: blocks" in (check.remedy or "")

    def test_a_gradient_that_keeps_the_scores_is_found(self) -> None:
        kept = figures(trained=(10_000_000, 33_000_000), kept=14_000_000)
        assert outcomes(checks.gradient_checks(kept)) == ["passed", "differs"]

    def test_products_pass(self) -> None:
        found = products.measure(ProductRequest(bits=4, tokens=16, side=128))
        assert checks.product_check(found).outcome == "passed"
        wrong = msgspec.structs.replace(found, difference=0.01)
        assert checks.product_check(wrong).outcome == "differs"


def figures(
    *, difference: float = 0.0, trained: tuple[int, int] = (1, 2), kept: int = 100
) -> GradientFigures:
    return GradientFigures(
        device=CPU,
        subject="attention",
        form="causal",
        head=64,
        tokens=40,
        lengths=(512, 1024),
        difference=difference,
        trained=trained,
        own=trained,
        kept=kept,
    )


def test_a_torn_checkpoint_is_found(make_run: MakeRun) -> None:
    run = make_run("save_every=2")
    run.train()
    assert examined(run.directory, run.recipe) == [(2, None), (4, None), (6, None)]
    tear_newest_checkpoint(run.directory)
    listed = examined(run.directory, run.recipe)
    damaged = [f"step {step} {reason}" for step, reason in listed if reason]
    check = checks.checkpoint_check("run", len(listed) - len(damaged), damaged)
    assert check.outcome == "differs"
    assert check.seen == "2 intact, 1 damaged: step 6 has a damaged training.safetensors"


def test_a_missing_tool_and_one_that_prints_something_else_are_found() -> None:
    answers = {**macs.M1_8GB, IOREG: "", VM_STAT: "error: no such host\n"}

    def run(commands: Sequence[Command]) -> list[str]:
        return [answers.get(each, "") for each in commands]

    uses = {each.name: each.use for each in MAC_TOOLS}
    found = checks.tool_checks(answers_of_tools(MAC_TOOLS, run), uses)
    differing = {each.subject: each.seen for each in found if each.outcome == "differs"}
    assert differing == {"ioreg": "gives no answer", "vm_stat": "its answer can't be read"}
    assert SYSCTL[0].endswith("sysctl")


def expected_peak(point: StepPoint) -> int:
    recipe = apply_settings(Recipe(), point.settings)
    shapes = ModelShapes.from_config(point.config)
    return estimate(shapes, recipe, "cpu", None, point.tokens + 1).peak


def step(peak: int) -> StepFigures:
    return StepFigures(device=CPU, peak=peak, seconds=1.0, loss=2.0)


class TestAStepOfARandomModel:
    POINT = StepPoint(
        name="tiny",
        config=llama(64, 128, layers=2, heads=(4, 2), vocabulary=96, bits=4),
        tokens=16,
        batch_size=2,
        grad_checkpoint=True,
        is_compared=True,
    )

    def test_is_computed_as_the_plain_way_does(self) -> None:
        found = steps.measure(self.POINT)
        assert not checks.start_checks(self.POINT, found)
        assert checks.computation_check(self.POINT, found).outcome == "passed"
        wrong = msgspec.structs.replace(found, gradient_difference=0.01)
        assert checks.computation_check(self.POINT, wrong).outcome == "differs"

    def test_whose_loss_in_chunks_is_wrong_is_trained_as_a_run_would_and_found(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = numpy_loss.loss_and_gradient

        def wrong(*arguments: Any, **options: Any) -> Any:
            (loss, count), gradient = right(*arguments, **options)
            return (1.2 * loss, count), gradient

        monkeypatch.setattr(numpy_loss, "loss_and_gradient", wrong)
        found = steps.measure(self.POINT)
        (check,) = checks.start_checks(self.POINT, found)
        assert check.outcome == "differs"
        assert "the chunked loss differs from the plain one by 0.2" in check.seen
        assert checks.computation_check(self.POINT, found).outcome == "passed"


class TestAnEstimateThatIsOff:
    def test_by_a_third_it_is_found_and_later_estimates_are_corrected(self, tmp_path: Path) -> None:
        """Every run takes 1.6 times its activations; corrected by other models, each one's estimate
        is about right."""
        context = Context(plan=Plan(), kind="cpu", bench=Bench(tmp_path, Watch(9)))
        points = plan_for("cpu").points
        found = [context.keep(peak_of_step(each, step(_off(each, 1.6)))) for each in points]
        assert "differs" in outcomes(found)
        errors = calibrated(context.peaks)
        assert max(abs(each.before) for each in errors) > 0.15
        assert max(abs(each.after) for each in errors) < 0.1
        assert len(remembered_peaks()) == len(points)

    def test_exactly_thirty_percent(self, tmp_path: Path) -> None:
        context = Context(plan=Plan(), kind="cpu", bench=Bench(tmp_path, Watch(9)))
        point = plan_for("cpu").points[0]
        check = context.keep(peak_of_step(point, step(round(expected_peak(point) / 0.7))))
        assert (check.outcome, "(-30.0%)" in check.seen) == ("differs", True)
        check = context.keep(peak_of_step(point, step(expected_peak(point))))
        assert check.outcome == "passed"


def _off(point: StepPoint, factor: float) -> int:
    """The peak if activations and loss took `factor` of what is estimated."""
    recipe = apply_settings(Recipe(), point.settings)
    shapes = ModelShapes.from_config(point.config)
    expected = estimate(shapes, recipe, "cpu", None, point.tokens + 1)
    more = replace(
        expected,
        activations=round(factor * expected.activations),
        loss=round(factor * expected.loss),
    )
    return more.peak


class TestASlowDisk:
    @staticmethod
    def clock(seconds: float) -> list[float]:
        """Readings before and after each file, which takes this long."""
        return list(accumulate(chain.from_iterable(repeat((1.0, seconds), 20))))

    @pytest.mark.parametrize(("seconds", "expected"), [(0.001, "passed"), (0.8, "differs")])
    def test_files_that_take_long(self, tmp_path: Path, seconds: float, expected: str) -> None:
        readings = iter(self.clock(seconds))
        found = disk.checked(tmp_path, 1_000_000, lambda: next(readings))
        assert outcomes(found) == [expected, expected]
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        (check,) = disk.checked(tmp_path / "none", 1000, time.perf_counter)
        assert check.outcome == "differs"

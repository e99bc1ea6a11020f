"""A journal's figures as curves over steps, tokens and time."""

from __future__ import annotations

import math

import pytest

from mlxft.runs import events as ev
from mlxft.runs.view import RunView, fold
from mlxft_tui.plot import curves


def trained(step: int, loss: float = 2.0, norm: float | None = None) -> ev.StepFinished:
    return ev.StepFinished(
        step=step, loss=loss, tokens=100, seconds=0.5, learning_rate=1e-4, gradient_norm=norm
    )


def validated(step: int, loss: float = 1.0) -> ev.ValidationFinished:
    return ev.ValidationFinished(step=step, loss=loss, tokens=1, seconds=1.0, best=False)


def view_of(*events: ev.AnyEvent) -> RunView:
    return fold(RunView(), events)


class TestLoss:
    def test_a_nan_loss_is_skipped(self) -> None:
        view = view_of(trained(1), trained(2, math.nan), trained(3))
        shown = curves.curve(view.steps, "loss", "step", 10)
        assert shown.step.tolist() == [1, 3]
        assert shown.point.tolist() == [0, 2]

    @pytest.mark.parametrize(
        ("over", "expected"), [("step", [1, 2]), ("tokens", [100, 200]), ("time", [0.5, 1.0])]
    )
    def test_it_is_drawn_over_the_chosen_x_axis(
        self, over: curves.XAxis, expected: list[float]
    ) -> None:
        view = view_of(trained(1), trained(2))
        assert curves.curve(view.steps, "loss", over, 1).x.tolist() == expected


class TestValidations:
    def test_they_are_at_their_step(self) -> None:
        view = view_of(validated(0), trained(1), trained(2), validated(2))
        assert list(curves.validation_points(view, "step", "o").x) == [0, 2]
        assert list(curves.validation_points(view, "tokens", "o").x) == [0, 200]

    def test_without_validations_there_are_no_points(self) -> None:
        assert len(curves.validation_points(view_of(trained(1)), "time", "o").x) == 0


class TestOthers:
    def test_an_unknown_norm_is_skipped(self) -> None:
        steps = view_of(trained(1), trained(2, norm=0.7)).steps
        norms = curves.curve(steps, "gradient", "step", 1)
        assert (list(norms.x), list(norms.raw)) == ([2], [0.7])

    def test_the_peak_is_the_one_last_reported_before_a_step(self) -> None:
        report = ev.TrainReported(
            step=1,
            loss=1.0,
            learning_rate=1e-4,
            steps_per_second=1.0,
            tokens_per_second=1.0,
            trained_tokens=1,
            peak_memory=7,
            active_memory=1,
            cache_memory=1,
        )
        steps = view_of(trained(1), report, trained(2), trained(3)).steps
        peaks = curves.curve(steps, "memory", "step", 10)
        assert (list(peaks.x), list(peaks.smooth)) == ([2, 3], [7, 7])

    def test_speed_is_tokens_per_second(self) -> None:
        speed = curves.curve(view_of(trained(1), trained(2)).steps, "speed", "step", 10)
        assert list(speed.smooth) == pytest.approx([200, 200])

    def test_the_learning_rate_is_not_smoothed(self) -> None:
        steps = view_of(trained(1), trained(2)).steps
        rates = curves.curve(steps, "rate", "tokens", 100)
        assert (list(rates.x), list(rates.smooth)) == ([100, 200], [1e-4, 1e-4])

"""The fold of a journal's events."""

from __future__ import annotations

import math

import msgspec
import pytest

from mlxft.runs import events as ev
from mlxft.runs.view import (
    FORWARD_SHARE,
    LOG_EVENTS,
    RunView,
    fold,
    seconds_late,
    seconds_left,
    state,
    tokens_per_second,
)
from mlxft.telemetry.sample import Sample


def started(start_step: int = 0, **recipe: int) -> ev.RunStarted:
    return ev.RunStarted(
        run="r-1", pid=1, host="mac", recipe=recipe, iters=100, start_step=start_step
    )


def validated(step: int, seconds: float = 10.0) -> ev.ValidationFinished:
    return ev.ValidationFinished(step=step, loss=2.0, tokens=1, seconds=seconds, best=False)


def prepared(valid_records: int) -> ev.DataPrepared:
    return ev.DataPrepared(
        train_records=9,
        valid_records=valid_records,
        tokens=90,
        trained_tokens=9,
        longest=9,
        truncated=0,
        untrainable=0,
        steps_per_epoch=1,
        padding_share=0.0,
    )


def sampled(step: int, seconds: float = 3.0) -> ev.SampleAnswered:
    return ev.SampleAnswered(step=step, prompt="p", text="t", tokens=1, seconds=seconds)


def trained(step: int, loss: float = 2.0, seconds: float = 0.5) -> ev.StepFinished:
    return ev.StepFinished(step=step, loss=loss, tokens=50, seconds=seconds, learning_rate=1e-4)


def finished() -> ev.RunFinished:
    return ev.RunFinished(
        reason="completed",
        step=100,
        first_loss=2.0,
        final_loss=1.0,
        best_validation_loss=None,
        best_validation_step=None,
        tokens_per_second=1.0,
        trained_tokens=1,
        peak_memory=1,
        seconds=1.0,
        adapter_path="adapters/r-1",
    )


def reported(step: int, loss: float) -> ev.TrainReported:
    return ev.TrainReported(
        step=step,
        loss=loss,
        learning_rate=1e-4,
        steps_per_second=1.0,
        tokens_per_second=1.0,
        trained_tokens=1,
        peak_memory=1,
        active_memory=1,
        cache_memory=1,
    )


class TestLoss:
    """The one loss that every screen and command shows of a run."""

    def test_before_the_first_report_it_is_the_mean_of_the_steps(self) -> None:
        assert fold(RunView(), [started()]).loss is None
        losses = [1 + 1 / step for step in range(1, 9001)]
        steps = [trained(step, loss) for step, loss in enumerate(losses, 1)]
        for count in (1, 3, 9000):
            mean = math.fsum(losses[:count]) / count
            assert fold(RunView(), [started(), *steps[:count]]).loss == pytest.approx(mean)

    def test_it_is_the_last_reports(self) -> None:
        view = fold(RunView(), [started(), trained(1, 9.0), reported(1, 3.25), trained(2, 9.0)])
        assert view.loss == 3.25

    def test_after_a_resume_it_is_the_last_report_before_its_step(self) -> None:
        first = [started(), *(reported(step, step / 100) for step in (10, 20, 30))]
        second = fold(RunView(), [*first, started(start_step=25)])
        assert second.loss == 0.2
        third = fold(second, [reported(30, 5.0), reported(40, 6.0), started(start_step=35)])
        assert third.loss == 5.0


class TestView:
    def test_batches_do_not_change_the_view(self) -> None:
        events = [started(), *(trained(step) for step in range(1, 30)), finished()]
        one_by_one = RunView()
        for event in events:
            one_by_one = fold(one_by_one, [event])
        assert one_by_one == fold(RunView(), events)

    @pytest.mark.parametrize(
        ("events", "live", "expected"),
        [
            ([], True, "starting"),
            ([], False, "lost"),
            ([started()], True, "starting"),
            ([started(), trained(1)], True, "running"),
            ([started(), trained(1)], False, "lost"),
            ([started(), trained(1), ev.RunPaused(step=1)], True, "paused"),
            ([started(), trained(1), finished()], True, "finished"),
            ([started(), ev.RunFailed(message="m", step=0, log="l")], False, "failed"),
        ],
    )
    def test_state_from_journal_and_lock(
        self, events: list[ev.AnyEvent], live: bool, expected: str
    ) -> None:
        assert state(fold(RunView(), events), live) == expected

    def test_a_resume_shows_each_step_once(self) -> None:
        first = [started(), *(trained(step, loss=9.0) for step in range(1, 8))]
        second = [started(start_step=5), trained(6, loss=1.0), trained(7, loss=1.0)]
        view = fold(RunView(), [*first, *second])
        assert list(view.steps.step) == [1, 2, 3, 4, 5, 6, 7]
        assert list(view.steps.loss)[-2:] == [1.0, 1.0]

    def test_a_repeated_validation_is_shown_once(self) -> None:
        first = [started(), validated(0), trained(1), trained(2), validated(2)]
        view = fold(RunView(), [*first, started(start_step=2), validated(2)])
        assert [each.step for each in view.validations] == [0, 2]
        again = fold(view, [started(), validated(0)])
        assert [each.step for each in again.validations] == [0]

    def test_the_baseline_is_not_the_best(self) -> None:
        lower = msgspec.structs.replace(validated(0), loss=0.1)
        view = fold(RunView(), [started(), lower, trained(1), validated(1)])
        assert (view.baseline, view.best_validation) == (lower, validated(1))

    def test_an_older_ending_covers_the_last_session_only(self) -> None:
        ending = finished()
        view = fold(RunView(), [started(), trained(1), trained(2), started(2), trained(3), ending])
        assert isinstance(view.ending, ev.RunFinished)
        assert view.ending.since_step == 2
        assert view.log[-1] == view.ending

    def test_time_left_uses_this_sessions_steps_only(self) -> None:
        slow = [started(), *(trained(step, seconds=100.0) for step in range(1, 51))]
        fast = [started(start_step=50), trained(51, seconds=1.0), trained(52, seconds=1.0)]
        view = fold(RunView(), [*slow, *fast])
        assert seconds_left(view) == pytest.approx(48.0)
        assert tokens_per_second(view) == pytest.approx(50.0)

    def test_time_left_includes_scheduled_work(self) -> None:
        recipe = {"steps_per_eval": 30, "sample_every": 40, "save_every": 25}
        steps = [trained(step, seconds=1.0) for step in range(1, 41)]
        saved = ev.CheckpointSaved(step=25, path="p", seconds=5.0)
        done = [validated(30), sampled(40), saved]
        view = fold(RunView(), [started(**recipe), *steps, *done])
        # 60 steps; validations after 60, 90 and 100; samples after 80 and 100; saves after 50, 75
        # and 100.
        assert seconds_left(view) == pytest.approx(60.0 + 3 * 10.0 + 2 * 3.0 + 3 * 5.0)

    def test_time_left_ignores_how_many_validations_were_manual(self) -> None:
        steps = [trained(step, seconds=1.0) for step in range(1, 34)]
        manual = [validated(12), validated(30), validated(33)]
        view = fold(RunView(), [started(steps_per_eval=30), *steps, *manual])
        assert seconds_left(view) == pytest.approx(67.0 + 3 * 10.0)

    def test_time_left_includes_the_rest_of_a_running_validation(self) -> None:
        steps = [trained(step, seconds=1.0) for step in range(1, 61)]
        validating = ev.ProgressMade(stage="validating", done=3, total=4)
        view = fold(RunView(), [started(steps_per_eval=30), *steps, validated(30), validating])
        assert seconds_left(view) == pytest.approx(40.0 + 2 * 10.0 + 2.5)

    def test_time_left_includes_the_last_validation(self) -> None:
        steps = [trained(step, seconds=1.0) for step in range(1, 101)]
        validating = ev.ProgressMade(stage="validating", done=1, total=4)
        view = fold(RunView(), [started(steps_per_eval=50), *steps, validated(50), validating])
        assert seconds_left(view) == pytest.approx(7.5)

    @pytest.mark.parametrize(("val_batches", "batches"), [(-1, 5), (3, 3), (0, 0)])
    def test_the_first_validation_is_estimated_from_a_step(
        self, val_batches: int, batches: int
    ) -> None:
        recipe = {"steps_per_eval": 50, "batch_size": 2, "val_batches": val_batches}
        steps = [trained(step, seconds=1.0) for step in range(1, 11)]
        view = fold(RunView(), [started(**recipe), prepared(valid_records=9), *steps])
        expected = 90.0 + 2 * batches * FORWARD_SHARE
        assert seconds_left(view) == pytest.approx(expected)

    def test_time_left_ignores_a_suspended_step(self) -> None:
        steps = [trained(step, seconds=900.0 if step == 45 else 1.0) for step in range(1, 51)]
        assert seconds_left(fold(RunView(), [started(), *steps])) == pytest.approx(50.0)

    def test_a_manual_rate_holds_until_a_step_has_another(self) -> None:
        changed = ev.LearningRateChanged(step=1, learning_rate=5e-5)
        view = fold(RunView(), [started(), trained(1), changed])
        assert view.learning_rate == 5e-5
        assert fold(view, [trained(2)]).learning_rate == 1e-4

    def test_a_resume_drops_samples_and_validations_after_its_start(self) -> None:
        samples = [
            ev.SampleAnswered(step=step, prompt="p", text=str(step), tokens=1, seconds=1.0)
            for step in (0, 10)
        ]
        best = ev.ValidationFinished(step=10, loss=0.1, tokens=1, seconds=1.0, best=True)
        first = fold(RunView(), [started(), *samples, best])
        view = fold(first, [started(start_step=5)])
        assert [each.step for each in first.samples] == [0, 10]
        assert [each.step for each in view.samples] == [0]
        assert view.best_validation is None

    def test_the_log_keeps_the_latest_events(self) -> None:
        warnings = [ev.Warned(message=str(number)) for number in range(LOG_EVENTS + 5)]
        log = fold(RunView(), [started(), *warnings]).log
        assert len(log) == LOG_EVENTS
        assert log[-1] == warnings[-1]

    def test_a_step_is_late_after_several_step_times(self) -> None:
        view = fold(RunView(), [started(), *(trained(step) for step in range(1, 30))])
        assert seconds_late(view, 19.0) is None
        assert seconds_late(view, 40.0) == 40.0
        slow = fold(RunView(), [started(), trained(1, seconds=60.0)])
        assert seconds_late(slow, 300.0) is None
        validating = fold(view, [ev.ProgressMade(stage="validating", done=1)])
        assert seconds_late(validating, 40.0) is None

    @pytest.mark.parametrize(
        "end",
        [
            ev.RunContinued(step=29, paused_seconds=500.0, time=500.0),
            ev.ValidationFinished(
                step=29, loss=1.0, tokens=1, seconds=500.0, best=False, time=500.0
            ),
            ev.SampleAnswered(step=29, prompt="p", text="t", tokens=1, seconds=500.0, time=500.0),
        ],
    )
    def test_other_work_does_not_make_a_step_late(self, end: ev.AnyEvent) -> None:
        view = fold(RunView(), [started(), *(trained(step) for step in range(1, 30)), end])
        assert seconds_late(view, 510.0) is None
        assert seconds_late(view, 540.0) == 40.0

    def test_the_first_machine_sample_is_this_sessions(self) -> None:
        samples = [ev.MachineSampled(sample=Sample(time=0, swap_used=each)) for each in (1, 2, 3)]
        view = fold(RunView(), [started(), *samples[:2]])
        assert view.first_machine == samples[0]
        again = fold(view, [started(start_step=0), samples[2]])
        assert again.first_machine == samples[2]

    def test_sleep_is_prevented_while_the_run_is_live(self) -> None:
        view = fold(RunView(), [started(), ev.SleepPrevented(by="caffeinate")])
        assert view.keeps_awake
        assert not fold(view, [finished()]).keeps_awake

    def test_the_best_validation_has_the_lowest_loss(self) -> None:
        validations = [
            ev.ValidationFinished(step=step, loss=loss, tokens=1, seconds=1.0, best=True)
            for step, loss in ((10, 2.0), (20, 1.0), (30, 1.5))
        ]
        best = fold(RunView(), [started(), *validations]).best_validation
        assert best is not None
        assert best.step == 20

"""The learning rate of each step: schedules and manual changes."""

from __future__ import annotations

import pytest

from mlxft.compute.training.optimizers import make_schedule
from mlxft.compute.training.session import TrainingSession
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe, apply_settings, rate_at
from mlxft.runs import events as ev
from support.training import MakeRun, Run


class TestLearningRate:
    def rates(self, run: Run) -> list[float]:
        return [each.learning_rate for each in run.of(ev.StepFinished)]

    def test_it_is_constant_without_a_schedule(self, make_run: MakeRun) -> None:
        run = make_run()
        run.train()
        assert self.rates(run) == [1e-3] * 6

    def test_a_schedule_spans_the_whole_run(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4")
        run.train()
        assert self.rates(run) == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])

    def test_its_unit_is_updates(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4", "grad_accumulation_steps=2")
        run.train()
        assert self.rates(run) == pytest.approx([1e-3, 1e-3, 0.5e-3, 0.5e-3])

    @pytest.mark.parametrize("accumulation", [1, 3])
    def test_a_cosine_ends_at_its_third_argument(
        self, make_run: MakeRun, accumulation: int
    ) -> None:
        run = make_run(
            "lr_schedule.name=cosine_decay",
            "lr_schedule.arguments=1e-3,2,2e-4",
            f"iters={4 * accumulation}",
            f"grad_accumulation_steps={accumulation}",
        )
        run.train()
        updates = self.rates(run)[::accumulation]
        assert updates == pytest.approx([1e-3, 0.6e-3, 2e-4, 2e-4])
        assert self.rates(run) == [rate for rate in updates for _ in range(accumulation)]

    def test_warmup_rises_from_its_start(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.warmup=2", "iters=4")
        run.train()
        assert self.rates(run) == pytest.approx([0, 0.5e-3, 1e-3, 1e-3])

    def test_refused_arguments_are_one_sentence(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=cosine_decay", "lr_schedule.arguments=1e-3,10,0,5")
        with pytest.raises(RecipeError, match=r"lr_schedule\.arguments"):
            run.train()

    def test_a_manual_rate_scales_the_rest_of_a_schedule(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4")

        def visit(session: TrainingSession) -> None:
            if session.step == 2 and not run.of(ev.LearningRateChanged):
                session.set_learning_rate(5e-4)

        run.train(visit)
        assert self.rates(run) == pytest.approx([1e-3, 0.75e-3, 5e-4, 2.5e-4])
        assert run.of(ev.LearningRateChanged)[0].step == 2
        assert run.of(ev.TrainReported)[-1].learning_rate == pytest.approx(2.5e-4)

    def test_a_change_of_an_outdated_rate_scales_the_current_one(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4")

        def visit(session: TrainingSession) -> None:
            if session.step == 3 and not run.of(ev.LearningRateChanged):
                # Half of the rate of two steps ago.
                session.set_learning_rate(5e-4, 1e-3)

        run.train(visit)
        assert self.rates(run) == pytest.approx([1e-3, 0.75e-3, 5e-4, 1.25e-4])
        assert run.of(ev.LearningRateChanged)[0].learning_rate == pytest.approx(1.25e-4)

    def test_a_schedule_that_has_ended_at_zero_stays_there_with_a_warning(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("lr_schedule.name=cosine_decay", "lr_schedule.arguments=1e-3,2", "iters=5")

        def visit(session: TrainingSession) -> None:
            if session.step == 3 and not run.of(ev.LearningRateChanged):
                session.set_learning_rate(5e-4)

        run.train(visit)
        assert self.rates(run)[-2:] == [0, 0]
        assert run.of(ev.LearningRateChanged)[0].learning_rate == 0
        assert "schedule has ended at 0" in run.of(ev.Warned)[-1].message

    def test_a_rate_out_of_range_is_refused(self, make_run: MakeRun) -> None:
        session = make_run().session()
        with pytest.raises(RecipeError, match="learning_rate is -1"):
            session.set_learning_rate(-1.0)

    @pytest.mark.parametrize("warmup", [0, 3])
    @pytest.mark.parametrize(
        "schedule",
        [
            "constant",
            "cosine_decay",
            "cosine_decay 1e-3,7,2e-4",
            "linear_schedule",
            "exponential_decay",
            "step_decay 1e-3,0.5,3",
        ],
    )
    def test_it_is_predicted_as_mlx_computes_it(self, schedule: str, warmup: int) -> None:
        name, _, arguments = schedule.partition(" ")
        settings = [f"lr_schedule.name={name}", f"lr_schedule.arguments={arguments}", "iters=12"]
        recipe = apply_settings(Recipe(), [*settings, f"lr_schedule.warmup={warmup}"])
        rate = make_schedule(recipe)
        for update in range(15):
            assert rate_at(recipe, update) == pytest.approx(rate(update), rel=1e-5, abs=1e-12)

"""Validations: when they run, what they measure and which adapter is the best."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft import recipe as recipes
from mlxft.compute.training.session import TrainingSession
from mlxft.runs import events as ev
from support.training import MakeRun, stop_after, write_records


class TestValidation:
    def test_it_runs_every_n_steps_and_at_the_end_with_the_final_weights(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("val_batches=-1", "steps_per_eval=4")
        finished = run.train()
        validations = run.of(ev.ValidationFinished)
        assert [each.step for each in validations] == [4, 6]
        again = make_run(
            "val_batches=-1",
            "learning_rate=0",
            "iters=1",
            f"resume_adapter_file={run.directory.adapter_file}",
        )
        again.train()
        assert again.of(ev.ValidationFinished)[0].loss == pytest.approx(validations[-1].loss)
        assert finished.best_validation_loss == min(each.loss for each in validations)

    def test_equal_weights_give_an_equal_loss(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=2", "steps_per_eval=1", "learning_rate=0", "iters=3")
        run.train()
        losses = [each.loss for each in run.of(ev.ValidationFinished)]
        assert len(losses) == 3
        assert len(set(losses)) == 1

    def test_it_runs_without_dropout(self, make_run: MakeRun) -> None:
        settings = ("val_batches=-1", "iters=1", "learning_rate=0")
        with_dropout, without = (
            make_run(*settings, "lora_parameters.dropout=0.5"),
            make_run(*settings),
        )
        with_dropout.train()
        without.train()
        loss = with_dropout.of(ev.ValidationFinished)[0].loss
        assert loss == without.of(ev.ValidationFinished)[0].loss

    def test_all_batches_count_every_trained_token(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "iters=1", "batch_size=3")
        run.train()
        part = make_run("val_batches=1", "iters=1", "batch_size=3")
        part.train()
        whole, some = run.of(ev.ValidationFinished)[0], part.of(ev.ValidationFinished)[0]
        assert whole.tokens > some.tokens > 0
        stages = [each for each in run.of(ev.ProgressMade) if each.stage == "validating"]
        assert [(each.done, each.total) for each in stages] == [(0, 2), (1, 2)]

    def test_zero_batches_turn_it_off(self, make_run: MakeRun) -> None:
        run = make_run("steps_per_eval=1")
        finished = run.train()
        assert run.of(ev.ValidationFinished) == []
        assert finished.best_validation_loss is None

    def test_a_missing_validation_set_is_a_warning(self, make_run: MakeRun, tmp_path: Path) -> None:
        data = write_records(tmp_path / "alone", *[{"text": "Turn on the lamp."}] * 4)
        run = make_run(f"data={data}", "val_batches=-1", "iters=1")
        run.train()
        assert "no records to validate on" in run.of(ev.Warned)[0].message

    def test_the_baseline_is_of_the_weights_before_the_first_step(self, make_run: MakeRun) -> None:
        """And changes nothing in the run: a kill before the first checkpoint repeats it."""
        settings = ("val_batches=-1", "iters=2", "lora_parameters.dropout=0.1")
        run, untrained = make_run(*settings, "val_at_start=true"), make_run(*settings)
        finished = run.train()
        baseline, last = run.of(ev.ValidationFinished)
        assert (baseline.step, baseline.best, last.step, last.best) == (0, False, 2, True)
        untrained.recipe = recipes.replace(untrained.recipe, "learning_rate", 0.0)
        untrained.train()
        assert baseline.loss == untrained.of(ev.ValidationFinished)[0].loss
        assert finished.baseline_loss == baseline.loss > last.loss
        assert finished.best_validation_step == 2
        plain = make_run(*settings)
        plain.train()
        assert run.adapter() == plain.adapter()

    def test_a_baseline_that_training_never_reaches_is_not_the_best(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("val_batches=-1", "iters=1", "val_at_start=true", "learning_rate=1")
        finished = run.train()
        baseline, last = run.of(ev.ValidationFinished)
        assert finished.best_validation_loss == last.loss > baseline.loss
        assert run.directory.best_adapter_file.read_bytes() == run.adapter()

    def test_a_resume_does_not_repeat_the_baseline(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "iters=3", "val_at_start=true")
        before = run.train(stop_after(1))
        after = run.train()
        assert [each.step for each in run.of(ev.ValidationFinished)] == [3]
        assert after.baseline_loss == before.baseline_loss

    def test_it_can_be_requested(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1")

        def visit(session: TrainingSession) -> None:
            if session.step == 2 and not run.of(ev.ValidationFinished):
                session.request_validation()

        run.train(visit)
        assert [each.step for each in run.of(ev.ValidationFinished)] == [2, 6]

    def test_the_best_adapter_is_kept(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "steps_per_eval=2", "iters=4")

        def spoil(session: TrainingSession) -> None:
            if session.step == 2 and not run.of(ev.LearningRateChanged):
                session.set_learning_rate(1.0)

        run.train(spoil)
        first, second = run.of(ev.ValidationFinished)
        assert first.best
        assert not second.best
        best = (run.directory.path / "best_adapters.safetensors").read_bytes()
        assert best != run.adapter()
        assert [(each.step, each.best) for each in run.of(ev.CheckpointSaved)] == [
            (2, True),
            (4, False),
        ]

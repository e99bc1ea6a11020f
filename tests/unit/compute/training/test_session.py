"""Whole runs of a tiny model: what they do to its weights, and what they tell."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import mlx.core as mx
import mlx_lm
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlxft.compute.generation.answers import Listener
from mlxft.compute.training import gradient_checkpointing
from mlxft.compute.training import step as steps
from mlxft.compute.training.session import TrainingSession
from mlxft.conversation.messages import Message, Question, Sampling
from mlxft.errors import DataError, EngineError, ModelError, RecipeError, RunError
from mlxft.memory.calibration import remembered_peaks
from mlxft.recipe import Optimizer, apply_settings
from mlxft.runs import events as ev
from support.tiny_model import make_tiny_model
from support.training_runs import MakeRun, Run, stop_after

QUESTION = Question((Message("user", "Turn on the lamp."),), Sampling(max_tokens=4))


def write_records(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return folder


def adapter_of(run: Run) -> dict[str, mx.array]:
    loaded = mx.load(str(run.directory.adapter_file))
    assert isinstance(loaded, dict)
    return loaded


class TestRun:
    def test_the_loss_falls_and_the_ending_sums_it_up(self, make_run: MakeRun) -> None:
        run = make_run("iters=10", "learning_rate=1e-2")
        finished = run.train()
        assert finished.reason == "completed"
        assert finished.step == 10
        assert finished.first_loss == run.losses[0]
        assert finished.final_loss == pytest.approx(sum(run.losses[-2:]) / 2)
        assert finished.final_loss < 0.9 * run.losses[0]
        assert finished.trained_tokens == sum(each.tokens for each in run.of(ev.StepFinished))
        assert finished.adapter_path == str(run.directory.path)
        assert finished.peak_memory > 0

    def test_events_come_in_the_order_of_the_work(self, make_run: MakeRun) -> None:
        run = make_run("iters=2")
        run.train()
        kinds = [type(each) for each in run.events if not isinstance(each, ev.ProgressMade)]
        assert kinds == [
            ev.DataPrepared,
            ev.ModelLoaded,
            ev.StepFinished,
            ev.StepFinished,
            ev.TrainReported,
            ev.CheckpointSaved,
        ]

    def test_data_and_model_are_described(self, make_run: MakeRun) -> None:
        run = make_run("iters=1", "max_seq_length=64", "mask_prompt=true")
        run.train()
        (data,) = run.of(ev.DataPrepared)
        assert (data.train_records, data.valid_records, data.steps_per_epoch) == (12, 5, 6)
        assert data.longest > 64 >= data.tokens / 12
        assert 0 < data.truncated < 12
        assert 0 < data.trained_tokens < data.tokens
        (model,) = run.of(ev.ModelLoaded)
        assert (model.model_type, model.quantization, model.dtype) == ("llama", "none", "float32")
        assert 0 < model.trainable_parameters < model.total_parameters
        assert model.expected_peak is not None
        assert model.expected_peak > model.total_parameters * 4

    def test_reports_are_the_mean_of_their_steps(self, make_run: MakeRun) -> None:
        run = make_run("iters=5")
        run.train()
        reports = run.of(ev.TrainReported)
        assert [each.step for each in reports] == [2, 4, 5]
        assert reports[1].loss == pytest.approx(sum(run.losses[2:4]) / 2)
        assert reports[2].loss == pytest.approx(run.losses[4])

    def test_a_run_is_the_same_twice(self, make_run: MakeRun) -> None:
        first = make_run("lora_parameters.dropout=0.2")
        second = make_run("lora_parameters.dropout=0.2")
        first.train()
        second.train()
        assert first.losses == second.losses
        assert first.adapter() == second.adapter()

    def test_another_seed_is_another_run(self, make_run: MakeRun) -> None:
        first, second = make_run(), make_run("seed=1")
        first.train()
        second.train()
        assert first.losses != second.losses

    def test_time_at_safe_points_is_not_step_time(self, make_run: MakeRun) -> None:
        run = make_run("iters=2")
        clock = iter(float(number) for number in range(1000))

        def visit(session: TrainingSession) -> None:
            for _ in range(100):
                next(clock)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.perf_counter", lambda: next(clock))
            run.train(visit)
        assert [each.seconds for each in run.of(ev.StepFinished)] == [1.0, 1.0]


class TestFineTuneTypes:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_mlx_lm_loads_what_is_saved(
        self, make_run: MakeRun, tiny_model: Path, kind: str
    ) -> None:
        run = make_run(f"fine_tune_type={kind}", "iters=3")
        run.train()
        model, _ = mlx_lm.load(str(tiny_model), adapter_path=str(run.directory.path))
        loaded = dict(tree_flatten(model.parameters()))
        saved = adapter_of(run)
        assert saved
        assert all(mx.array_equal(loaded[name], each) for name, each in saved.items())

    def test_full_trains_the_last_layers_only(self, make_run: MakeRun) -> None:
        run = make_run("fine_tune_type=full", "num_layers=1", "iters=1")
        run.train()
        assert all(name.startswith("model.layers.2.") for name in adapter_of(run))

    def test_minus_one_is_every_layer(self, make_run: MakeRun) -> None:
        run = make_run("num_layers=-1", "iters=1")
        run.train()
        layers = {name.split(".")[2] for name in adapter_of(run)}
        assert layers == {"0", "1", "2"}

    def test_keys_choose_the_linear_layers(self, make_run: MakeRun) -> None:
        run = make_run("lora_parameters.keys=self_attn.q_proj", "iters=1", "num_layers=1")
        run.train()
        prefix = "model.layers.2.self_attn.q_proj"
        assert sorted(adapter_of(run)) == [f"{prefix}.lora_a", f"{prefix}.lora_b"]

    def test_a_key_of_no_layer_is_refused_with_those_there_are(self, make_run: MakeRun) -> None:
        run = make_run("lora_parameters.keys=self_attn.query")
        with pytest.raises(RecipeError, match=r"self_attn\.query, .* it has .*self_attn\.q_proj"):
            run.train()

    def test_more_layers_than_there_are_are_refused(self, make_run: MakeRun) -> None:
        with pytest.raises(RecipeError, match="num_layers is 4, but the model has 3"):
            make_run("num_layers=4").train()

    def test_training_goes_on_from_given_weights(self, make_run: MakeRun) -> None:
        first = make_run("iters=3")
        first.train()
        file = first.directory.adapter_file
        second = make_run("learning_rate=0", "iters=1", f"resume_adapter_file={file}")
        second.train()
        assert second.adapter() == first.adapter()

    def test_weights_of_another_shape_are_refused(self, make_run: MakeRun) -> None:
        first = make_run("iters=1")
        first.train()
        file = first.directory.adapter_file
        second = make_run("rank=4", f"resume_adapter_file={file}")
        with pytest.raises(ModelError, match=r"adapters\.safetensors: these weights don't fit"):
            second.train()


class TestOptimizers:
    @pytest.mark.parametrize("name", get_args(Optimizer))
    def test_each_changes_the_weights(self, make_run: MakeRun, name: str) -> None:
        run = make_run(f"optimizer={name}", "iters=3", "learning_rate=1e-2")
        run.train()
        assert len(set(run.losses)) == 3
        assert all(mx.all(mx.isfinite(each)).item() for each in adapter_of(run).values())

    def test_its_arguments_are_passed_on(self, make_run: MakeRun) -> None:
        plain, decayed = make_run("optimizer=adamw"), make_run("optimizer=adamw")
        decayed.recipe = apply_settings(
            decayed.recipe, ["optimizer_config={adamw: {weight_decay: 10.0}}"]
        )
        plain.train()
        decayed.train()
        assert plain.adapter() != decayed.adapter()

    def test_an_unknown_argument_is_refused(self, make_run: MakeRun) -> None:
        run = make_run("optimizer_config={adam: {beta: 1}}")
        with pytest.raises(RecipeError, match=r"optimizer_config\.adam .* 'beta'"):
            run.train()

    def test_adafactor_says_that_it_ignores_the_rate(self, make_run: MakeRun) -> None:
        run = make_run("optimizer=adafactor", "iters=1")
        run.train()
        assert "ignores learning_rate" in run.of(ev.Warned)[0].message


class TestLearningRate:
    def rates(self, run: Run) -> list[float]:
        return [each.learning_rate for each in run.of(ev.StepFinished)]

    def test_it_is_constant_without_a_schedule(self, make_run: MakeRun) -> None:
        run = make_run()
        run.train()
        assert self.rates(run) == [1e-3] * 6

    def test_a_schedule_is_over_the_whole_run(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4")
        run.train()
        assert self.rates(run) == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])

    def test_its_unit_is_updates(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4", "grad_accumulation_steps=2")
        run.train()
        assert self.rates(run) == pytest.approx([1e-3, 1e-3, 0.5e-3, 0.5e-3])

    def test_warmup_rises_from_its_start(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.warmup=2", "iters=4")
        run.train()
        assert self.rates(run) == pytest.approx([0, 0.5e-3, 1e-3, 1e-3])

    def test_refused_arguments_are_a_sentence(self, make_run: MakeRun) -> None:
        run = make_run("lr_schedule.name=cosine_decay", "lr_schedule.arguments=1e-3,10,0,5")
        with pytest.raises(RecipeError, match=r"lr_schedule\.arguments"):
            run.train()

    def test_a_schedule_goes_on_in_proportion_from_a_rate_set_by_hand(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4")

        def visit(session: TrainingSession) -> None:
            if session.step == 2 and not run.of(ev.LearningRateChanged):
                session.set_learning_rate(5e-4)

        run.train(visit)
        assert self.rates(run) == pytest.approx([1e-3, 0.75e-3, 5e-4, 2.5e-4])
        assert run.of(ev.LearningRateChanged)[0].step == 2
        assert run.of(ev.TrainReported)[-1].learning_rate == pytest.approx(2.5e-4)

    def test_a_change_of_a_rate_that_a_schedule_has_left_behind_is_made_in_proportion(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("lr_schedule.name=linear_schedule", "iters=4")

        def visit(session: TrainingSession) -> None:
            if session.step == 3 and not run.of(ev.LearningRateChanged):
                # Halved as it was seen two steps ago.
                session.set_learning_rate(5e-4, 1e-3)

        run.train(visit)
        assert self.rates(run) == pytest.approx([1e-3, 0.75e-3, 5e-4, 1.25e-4])
        assert run.of(ev.LearningRateChanged)[0].learning_rate == pytest.approx(1.25e-4)

    def test_a_schedule_that_has_ended_at_zero_stays_there_and_says_so(
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


class TestAccumulation:
    def test_two_halves_are_one_batch(self, make_run: MakeRun, tmp_path: Path) -> None:
        """Equal records, so that every batch is the same whatever its order."""
        data = write_records(tmp_path / "same", *[{"text": "Turn on the lamp."}] * 4)
        once = make_run(f"data={data}", "batch_size=4", "iters=2")
        halves = make_run(f"data={data}", "iters=4", "grad_accumulation_steps=2")
        once.train()
        halves.train()
        for name, array in adapter_of(once).items():
            assert mx.allclose(array, adapter_of(halves)[name], atol=1e-5)

    def test_a_last_partial_window_is_applied(self, make_run: MakeRun) -> None:
        run = make_run("iters=3", "grad_accumulation_steps=2", "lora_parameters.keys=mlp.up_proj")
        shorter = make_run(
            "iters=2", "grad_accumulation_steps=2", "lora_parameters.keys=mlp.up_proj"
        )
        run.train()
        shorter.train()
        assert run.adapter() != shorter.adapter()

    def test_weights_stay_until_the_window_is_full(self, make_run: MakeRun, tmp_path: Path) -> None:
        data = write_records(tmp_path / "same", *[{"text": "Turn on the lamp."}] * 4)
        run = make_run(f"data={data}", "iters=4", "grad_accumulation_steps=2")
        run.train()
        assert run.losses[0] == run.losses[1] != run.losses[2] == run.losses[3]


class TestGradCheckpoint:
    def test_it_changes_no_number(self, make_run: MakeRun) -> None:
        plain, saving = make_run(), make_run("grad_checkpoint=true")
        plain.train()
        saving.train()
        assert plain.losses == pytest.approx(saving.losses, rel=1e-6)

    def test_the_blocks_are_as_before_afterwards(self, make_run: MakeRun) -> None:
        from mlx_lm.models.llama import TransformerBlock

        before = TransformerBlock.__call__
        make_run("grad_checkpoint=true", "iters=2").train()
        assert TransformerBlock.__call__ is before

    def test_an_inherited_call_is_inherited_again(self) -> None:
        class Parent:
            def __call__(self) -> int:
                return 1

        class Child(Parent):
            pass

        with gradient_checkpointing.checkpointed([Child()]):
            assert "__call__" in vars(Child)
        assert "__call__" not in vars(Child)


class TestValidation:
    def test_it_comes_every_n_and_at_the_end_with_the_final_weights(
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

    def test_dropout_is_off_in_it(self, make_run: MakeRun) -> None:
        settings = ("val_batches=-1", "iters=1", "learning_rate=0")
        with_dropout, without = (
            make_run(*settings, "lora_parameters.dropout=0.5"),
            make_run(*settings),
        )
        with_dropout.train()
        without.train()
        loss = with_dropout.of(ev.ValidationFinished)[0].loss
        assert loss == without.of(ev.ValidationFinished)[0].loss

    def test_all_of_it_counts_every_trained_token(self, make_run: MakeRun) -> None:
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

    def test_a_set_without_it_says_so(self, make_run: MakeRun, tmp_path: Path) -> None:
        data = write_records(tmp_path / "alone", *[{"text": "Turn on the lamp."}] * 4)
        run = make_run(f"data={data}", "val_batches=-1", "iters=1")
        run.train()
        assert "no records to validate on" in run.of(ev.Warned)[0].message

    def test_it_can_be_asked_for(self, make_run: MakeRun) -> None:
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


class TestStop:
    def test_it_saves_after_the_step(self, make_run: MakeRun) -> None:
        run = make_run()
        finished = run.train(stop_after(3))
        assert (finished.reason, finished.step) == ("stopped", 3)
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [3]
        assert run.directory.numbered_adapter_file(3).exists()

    def test_before_the_first_step_there_is_nothing_to_save(self, make_run: MakeRun) -> None:
        run = make_run()
        finished = run.train(stop_after(0))
        assert (finished.reason, finished.step) == ("stopped", 0)
        assert finished.first_loss is finished.final_loss is None
        assert not run.directory.adapter_file.exists()

    def test_it_leaves_a_validation_off(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "steps_per_eval=2")

        def visit(session: TrainingSession) -> None:
            if any(each.stage == "validating" for each in run.of(ev.ProgressMade)):
                session.request_stop()

        finished = run.train(visit)
        assert finished.step == 2
        assert run.of(ev.ValidationFinished) == []
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [2]
        assert "cancelled the validation of step 2" in run.of(ev.Warned)[0].message

    def test_a_run_whose_closing_validation_it_leaves_off_has_not_finished(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("MLXFT_PEAKS", str(tmp_path / "peaks.jsonl"))
        run = make_run("val_batches=-1", "iters=3", "steps_per_eval=3")

        def visit(session: TrainingSession) -> None:
            if session.is_validating:
                session.request_stop()

        stopped = run.train(visit)
        assert (stopped.reason, stopped.step) == ("stopped", 3)
        assert [each.run for each in remembered_peaks()] == [str(run.directory.path)]
        assert run.train().reason == "completed"
        assert [each.step for each in run.of(ev.ValidationFinished)] == [3]


def fail_at_step_4(monkeypatch: pytest.MonkeyPatch) -> None:
    good = steps.Stepper.add_gradient

    def spoiled(stepper: Any, step: int, batch: Any) -> steps.StepResult:
        result = good(stepper, step, batch)
        return steps.StepResult(math.nan, result.tokens, math.nan) if step == 4 else result

    monkeypatch.setattr(steps.Stepper, "add_gradient", spoiled)


class TestBadNumbers:
    def test_a_loss_that_is_not_a_number_costs_no_good_step(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = make_run("save_every=2", "learning_rate=0.01")
        fail_at_step_4(monkeypatch)
        message = r"Step 4: the loss is nan .* lines \d+, \d+; the step was discarded.* step 3"
        with pytest.raises(RunError, match=message) as failure:
            run.train()
        assert failure.value.cause == "not_finite"
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [2, 3]
        monkeypatch.undo()
        whole = make_run("save_every=2", "learning_rate=0.01")
        run.train()
        whole.train()
        assert run.adapter() == whole.adapter()

    def test_weights_that_ran_away_are_not_saved(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = make_run("save_every=2")
        fail_at_step_4(monkeypatch)
        monkeypatch.setattr(steps.Stepper, "loss", lambda *_: (100.0, 5))
        with pytest.raises(RunError, match=r"from step 2.* Steps after 2 are discarded"):
            run.train()
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [2]

    def test_a_gradient_out_of_bounds_is_found_before_the_update(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        folder = make_tiny_model(tmp_path / "broken")
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"][:] = 3e38
        save_file(weights, folder / "model.safetensors")
        run = make_run(f"model={folder}")
        with pytest.raises(RunError, match=r"Step 1: the loss is .* lower learning_rate"):
            run.train()
        assert not run.directory.adapter_file.exists()

    def test_a_validation_that_is_not_a_number_is_no_best_one(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps.Stepper, "loss", lambda *_: (math.nan, 5))
        run = make_run("val_batches=-1", "iters=1")
        assert run.train().best_validation_loss is None
        assert "validation loss is nan" in run.of(ev.Warned)[0].message

    def test_records_without_a_target_are_left_out_and_counted(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        long = {"prompt": "word " * 100, "completion": "x"}
        short = {"prompt": "a", "completion": "b"}
        data = write_records(tmp_path / "long", long, short, long, short)
        run = make_run(f"data={data}", "mask_prompt=true", "max_seq_length=64", "iters=4")
        finished = run.train()
        assert run.of(ev.DataPrepared)[0].untrainable == 2
        assert "2 of 4 records" in run.of(ev.Warned)[0].message
        assert all(math.isfinite(loss) for loss in run.losses)
        assert finished.step == 4

    def test_no_target_at_all_is_a_sentence(self, make_run: MakeRun, tmp_path: Path) -> None:
        long = {"prompt": "word " * 100, "completion": "x"}
        data = write_records(tmp_path / "long", long, long)
        run = make_run(f"data={data}", "mask_prompt=true", "max_seq_length=64")
        with pytest.raises(DataError, match=r"train\.jsonl: no record has a token to train"):
            run.train()

    def test_used_up_memory_is_a_sentence(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("[metal::malloc] Unable to allocate 80 bytes.")

        monkeypatch.setattr(steps.Stepper, "add_gradient", fail)
        message = r"Step 1: out of memory .*; (set|choose) "
        with pytest.raises(RunError, match=message) as failure:
            make_run().train()
        assert failure.value.cause == "out_of_memory"

    def test_the_gpu_watchdog_of_macos_is_recognised(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("Command buffer execution failed: Impacting Interactivity (e)")

        monkeypatch.setattr(steps.Stepper, "add_gradient", fail)
        with pytest.raises(RunError, match="Step 1: MLX failed") as failure:
            make_run().train()
        assert failure.value.cause == "gpu_watchdog"


class TestChatWhileTraining:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_it_changes_nothing_of_the_run(self, make_run: MakeRun, kind: str) -> None:
        settings = (f"fine_tune_type={kind}", "lora_parameters.dropout=0.2", "val_batches=-1")
        quiet, talking = make_run(*settings), make_run(*settings)
        sampling = Sampling(temperature=1.0, max_tokens=3)

        def visit(session: TrainingSession) -> None:
            if session.step == 0 and not talking.of(ev.ModelLoaded):
                return
            for use_adapter in (True, False):
                question = Question(QUESTION.messages, sampling, use_adapter)
                session.answer(question, lambda _: None, lambda: False)
            silent = Listener(lambda _: None, lambda: False)
            session.answer_together([(QUESTION, quiet.directory.path, silent)])

        quiet.train()
        talking.train(visit)
        assert quiet.losses == talking.losses
        assert quiet.adapter() == talking.adapter()

    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_the_base_answers_as_the_untrained_model(
        self, make_run: MakeRun, tiny_model: Path, kind: str
    ) -> None:
        run = make_run(f"fine_tune_type={kind}", "learning_rate=0.05", "iters=8")
        session = run.session()
        session.prepare()
        session.run()

        def ask(use_adapter: bool) -> str:
            question = Question(QUESTION.messages, Sampling(max_tokens=12), use_adapter)
            return str(session.answer(question, lambda _: None, lambda: False).text)

        model, tokenizer = mlx_lm.load(str(tiny_model))
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Turn on the lamp."}], add_generation_prompt=True
        )
        expected = mlx_lm.generate(model, tokenizer, prompt, max_tokens=12)
        tuned = ask(True)
        assert ask(False) == expected
        assert tuned != expected
        assert ask(True) == tuned

    def test_there_is_no_answer_before_the_model(self, make_run: MakeRun) -> None:
        with pytest.raises(EngineError, match="still loading"):
            make_run().session().answer(QUESTION, lambda _: None, lambda: False)

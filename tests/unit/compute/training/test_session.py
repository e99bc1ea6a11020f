"""Whole runs of a tiny model: what they report and what they do to its weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mlx.core as mx
import pytest

from mlxft.compute.training import gradient_checkpointing
from mlxft.compute.training.session import TrainingSession
from mlxft.memory.calibration import remembered_peaks
from mlxft.runs import events as ev
from support.killing import KilledError
from support.training import MakeRun, Run, stop_after, write_records


def kill(*_: object) -> None:
    raise KilledError


def adapter_of(run: Run) -> dict[str, mx.array]:
    loaded = mx.load(str(run.directory.adapter_file))
    assert isinstance(loaded, dict)
    return loaded


class TestRun:
    def test_the_loss_falls_and_the_summary_is_right(self, make_run: MakeRun) -> None:
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

    def test_events_come_in_order(self, make_run: MakeRun) -> None:
        run = make_run("iters=2")
        run.train()
        kinds = [type(each) for each in run.events if not isinstance(each, ev.ProgressMade)]
        assert kinds == [
            ev.RunStarted,
            ev.DataPrepared,
            ev.ModelLoaded,
            ev.OperationsChosen,
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
        files = {name: Path(run.recipe.data) / f"{name}.jsonl" for name in ("train", "valid")}
        assert data.fingerprints == {
            name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items()
        }
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

    def test_another_seed_gives_another_run(self, make_run: MakeRun) -> None:
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


class TestAccumulation:
    @pytest.mark.parametrize(("by", "equal"), [("tokens", True), ("steps", False)])
    def test_short_and_long_records_are_one_larger_batch_by_tokens(
        self, make_run: MakeRun, tmp_path: Path, by: str, equal: bool
    ) -> None:
        records = [{"text": "On"}, {"text": "Turn on the lamp in the long hall. " * 3}]
        settings = (f"data={write_records(tmp_path / 'two', *records)}", "optimizer=sgd")
        rate = "learning_rate=0.01"
        once = make_run(*settings, rate, "batch_size=2", "iters=2")
        parts = make_run(
            *settings,
            rate,
            "batch_size=1",
            "iters=4",
            "grad_accumulation_steps=2",
            f"grad_accumulation_by={by}",
        )
        once.train()
        parts.train()
        both = adapter_of(parts)
        assert equal == all(
            mx.allclose(array, both[name], rtol=0, atol=1e-5)
            for name, array in adapter_of(once).items()
        )

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
    def test_it_changes_no_loss(self, make_run: MakeRun) -> None:
        plain, saving = make_run(), make_run("grad_checkpoint=true")
        plain.train()
        saving.train()
        assert plain.losses == pytest.approx(saving.losses, rel=1e-6)

    def test_the_blocks_are_restored_afterwards(self, make_run: MakeRun) -> None:
        from mlx_lm.models.llama import TransformerBlock

        before = TransformerBlock.__call__
        make_run("grad_checkpoint=true", "iters=2").train()
        assert TransformerBlock.__call__ is before

    def test_an_inherited_call_is_restored(self) -> None:
        class Parent:
            def __call__(self) -> int:
                return 1

        class Child(Parent):
            pass

        with gradient_checkpointing.checkpointed([Child()]):
            assert "__call__" in vars(Child)
        assert "__call__" not in vars(Child)


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

    def test_it_cancels_a_validation(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "steps_per_eval=2")

        def visit(session: TrainingSession) -> None:
            if any(each.stage == "validating" for each in run.of(ev.ProgressMade)):
                session.request_stop()

        finished = run.train(visit)
        assert finished.step == 2
        assert run.of(ev.ValidationFinished) == []
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [2]
        assert "cancelled the validation of step 2" in run.of(ev.Warned)[0].message

    def test_a_run_without_its_final_validation_has_not_finished(
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
        # Also while it loads to make up for it.
        assert run.session().summary().reason == "stopped"
        assert run.train(visit).reason == "stopped"
        assert run.train().reason == "completed"
        assert [each.step for each in run.of(ev.ValidationFinished)] == [3]

    def test_a_kill_at_the_end_does_not_lose_the_peak(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A run in several sessions is one run, with the highest of their peaks."""
        monkeypatch.setenv("MLXFT_PEAKS", str(tmp_path / "peaks.jsonl"))
        run = make_run("iters=3", "save_every=1")
        with monkeypatch.context() as patch:
            patch.setattr("mlxft.compute.training.session.remember_peak", kill)
            with pytest.raises(KilledError):
                run.train()
        assert not remembered_peaks()
        (saved,) = (run.directory.checkpoints / "0000003").glob("state.json")
        peak = json.loads(saved.read_bytes())["state"]["spent"]["training_peak"]
        run.train()
        (remembered,) = remembered_peaks()
        assert remembered.measured >= peak > 0
        run.train()
        assert [each.measured >= peak for each in remembered_peaks()] == [True]

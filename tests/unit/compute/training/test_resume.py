"""Resumed runs: bit-exact, and with a changed recipe or dataset."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from mlxft.compute.training.session import TrainingSession
from mlxft.errors import RunError
from mlxft.recipe import apply_settings
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from support.killing import KilledError
from support.models import CHAT_TEMPLATE, make_tiny_data, make_tiny_model
from support.training import MakeRun, Run, stop_after

FULL_OF_STATE = (
    "iters=7",
    "lora_parameters.dropout=0.2",
    "grad_accumulation_steps=2",
    "lr_schedule.name=cosine_decay",
    "val_batches=-1",
    "steps_per_eval=3",
    "steps_per_report=1",
    "grad_checkpoint=true",
    "neftune_noise_alpha=5",
    "train_embeddings=all",
)


def train_in_parts(run: Run, *stops: int) -> list[float]:
    """The losses of all sessions; each but the last is stopped after a step."""
    losses: list[float] = []
    for stop in stops:
        run.train(stop_after(stop))
        losses += run.losses
    run.train()
    return losses + run.losses


class TestResumeWithChangedData:
    def test_it_is_a_warning(self, make_run: MakeRun, tmp_path: Path) -> None:
        data = make_tiny_data(tmp_path / "data")
        run = make_run(f"data={data}")
        run.train(stop_after(3))
        with (data / "train.jsonl").open("a") as file:
            file.write('{"prompt": "One more?", "completion": "Yes."}\n')
        run.train(stop_after(4))
        (warned,) = run.of(ev.Warned)
        assert "the training set has changed since this step" in warned.message
        run.train()
        assert not run.of(ev.Warned)

    def test_unchanged_data_is_no_warning(self, make_run: MakeRun) -> None:
        settings = ("lr_schedule.name=cosine_decay", "lr_schedule.arguments=[1e-3,6]")
        run = make_run(*settings, "lora_parameters.keys=self_attn.q_proj")
        run.train(stop_after(3))
        run.train()
        assert not run.of(ev.Warned)


class TestResumeOnAnotherDay:
    """Some chat templates write the current date."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        template = "{{ strftime_now('%d %b %Y') }}\n" + CHAT_TEMPLATE
        return make_tiny_model(tmp_path / "dated", chat_template=template)

    def set_date(self, monkeypatch: pytest.MonkeyPatch, day: int) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime(2026, 3, day, tzinfo=tz)

        monkeypatch.setattr("mlxft.compute.training.session.datetime", Clock)
        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)

    def test_it_is_bit_exact(
        self, make_run: MakeRun, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.set_date(monkeypatch, 1)
        settings = (f"model={model}", "iters=4")
        whole, parts = make_run(*settings), make_run(*settings)
        whole.train()
        parts.train(stop_after(2))
        self.set_date(monkeypatch, 2)
        parts.train()
        assert not parts.of(ev.Warned)
        assert parts.losses == whole.losses[2:]
        assert parts.adapter() == whole.adapter()


class TestResume:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_it_is_bit_exact(self, make_run: MakeRun, kind: str) -> None:
        settings = (*FULL_OF_STATE, f"fine_tune_type={kind}")
        whole, parts = make_run(*settings), make_run(*settings)
        whole.train()
        expected = whole.losses
        assert train_in_parts(parts, 1, 4) == expected
        assert parts.adapter() == whole.adapter()
        assert [each.step for each in parts.of(ev.StepFinished)] == [5, 6, 7]

    @pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "adafactor"])
    def test_it_restores_the_optimizers_state(self, make_run: MakeRun, optimizer: str) -> None:
        settings = (f"optimizer={optimizer}", "iters=4", "optimizer_config={sgd: {momentum: 0.9}}")
        whole, parts = make_run(*settings), make_run(*settings)
        whole.train()
        train_in_parts(parts, 2)
        assert parts.adapter() == whole.adapter()

    def test_a_compiled_update_has_the_restored_state(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a GPU it reads and writes only what it was made with, and refuses any other state."""
        captured: list[Any] = []

        def compiled(function: Any, inputs: Any = None, outputs: Any = None) -> Any:
            captured.extend(inputs or ())
            return function

        run = make_run("iters=4")
        run.train(stop_after(2))
        session = run.session()
        monkeypatch.setattr("mlx.core.compile", compiled)
        session.prepare()
        assert any(each is session.prepared.optimizer.state for each in captured)

    def test_the_summary_covers_all_sessions(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "steps_per_eval=2")
        before = run.train(stop_after(3))
        first = run.session()
        assert (first.start_step, first.step) == (3, 3)
        after = run.train()
        assert after.first_loss == before.first_loss
        assert after.trained_tokens > before.trained_tokens
        assert after.best_validation_step == 6

    def test_a_report_covers_the_steps_before_the_stop(self, make_run: MakeRun) -> None:
        whole, parts = make_run("steps_per_report=4"), make_run("steps_per_report=4")
        whole.train()
        parts.train(stop_after(3))
        assert [each.step for each in parts.of(ev.TrainReported)] == [3]
        parts.train()
        reports = [(each.step, each.loss) for each in parts.of(ev.TrainReported)]
        assert reports == [(each.step, each.loss) for each in whole.of(ev.TrainReported)]

    def test_time_and_speed_cover_all_sessions(self, make_run: MakeRun) -> None:
        run = make_run("save_every=2")
        before = run.train(stop_after(3))
        steps = run.of(ev.StepFinished)
        after = run.train()
        steps += run.of(ev.StepFinished)
        assert after.since_step == before.since_step == 0
        assert after.seconds > before.seconds > 0
        assert after.peak_memory >= before.peak_memory
        own = sum(each.tokens for each in steps) / sum(each.seconds for each in steps)
        assert after.tokens_per_second == pytest.approx(own)

    def test_an_old_checkpoint_without_totals_counts_from_its_step(self, make_run: MakeRun) -> None:
        run = make_run()
        run.train(stop_after(3))
        (state,) = run.directory.checkpoints.glob("*/state.json")
        manifest = json.loads(state.read_text())
        del manifest["state"]["spent"], manifest["state"]["window"], manifest["accumulated_unit"]
        state.write_text(json.dumps(manifest))
        stopped = run.train(stop_after(5))
        assert stopped.since_step == 3
        steps = run.of(ev.StepFinished)
        finished = run.train()
        steps += run.of(ev.StepFinished)
        assert finished.since_step == 3
        own = sum(each.tokens for each in steps) / sum(each.seconds for each in steps)
        assert finished.tokens_per_second == pytest.approx(own)

    def test_a_session_stopped_while_loading_reports_the_earlier_ones(
        self, make_run: MakeRun
    ) -> None:
        run = make_run()
        before = run.train(stop_after(3))
        summary = run.session().summary()
        assert (summary.reason, summary.step) == ("stopped", 3)
        assert 0 < summary.seconds <= before.seconds
        assert summary.tokens_per_second == before.tokens_per_second

    def test_a_session_without_steps_keeps_the_final_loss(self, make_run: MakeRun) -> None:
        run = make_run("iters=3")
        before = run.train()
        assert before.final_loss == run.losses[-1]
        assert run.train().final_loss == before.final_loss

    def test_an_old_checkpoint_has_no_final_loss(self, make_run: MakeRun) -> None:
        run = make_run("iters=2")
        run.train()
        (state,) = run.directory.checkpoints.glob("*/state.json")
        manifest = json.loads(state.read_text())
        del manifest["state"]["final_loss"], manifest["state"]["sample_waits"]
        state.write_text(json.dumps(manifest))
        assert run.train().final_loss is None

    def test_an_old_checkpoints_mask_prompt_is_the_last_answer(
        self, make_run: MakeRun, tmp_path: Path
    ) -> None:
        run = make_run("train_on=last_answer", "iters=3")
        run.train(stop_after(2))
        (file,) = run.directory.checkpoints.glob("*/state.json")
        manifest = json.loads(file.read_text())
        del manifest["recipe"]["train_on"]
        manifest["recipe"]["mask_prompt"] = True
        file.write_text(json.dumps(manifest))
        recipe_file = run.directory.recipe_file
        others = (e for e in recipe_file.read_text().splitlines() if "train_on" not in e)
        old = [e for e in others if not e.startswith("mask_prompt")]
        recipe_file.write_text("\n".join([*old, "mask_prompt: true", ""]))
        run.recipe = run.directory.recipe()
        assert run.recipe.train_on == "last_answer"
        shutil.copytree(run.directory.path, tmp_path / "same")
        same = Run(RunDirectory(tmp_path / "same"), run.recipe)
        assert same.train().step == 3
        assert not same.of(ev.Warned)
        run.recipe = apply_settings(run.recipe, ["train_on=everything"])
        run.train()
        assert "last_answer → everything" in run.of(ev.Warned)[0].message

    def test_a_manual_rate_stays(self, make_run: MakeRun) -> None:
        run = make_run("iters=4")
        session = run.session(stop_after(2))
        session.set_learning_rate(5e-4)
        session.prepare()
        session.run()
        run.train()
        assert run.of(ev.StepFinished)[0].learning_rate == 5e-4

    def test_rates_set_between_a_checkpoint_and_a_kill_are_set_again(
        self, make_run: MakeRun
    ) -> None:
        """Each after its step, so that the run ends as it would have."""
        settings = ("iters=7", "save_every=4", "lr_schedule.name=cosine_decay")
        whole, killed = make_run(*settings), make_run(*settings)

        def steer(session: TrainingSession) -> None:
            if session.step in (4, 5):
                session.set_learning_rate(session.step * 1e-4)

        def steer_until_killed(session: TrainingSession) -> None:
            steer(session)
            if session.step == 6:
                raise KilledError

        whole.train(steer)
        with suppress(KilledError):
            killed.train(steer_until_killed)
        killed.train()
        assert killed.adapter() == whole.adapter()
        rates = [(each.step, each.learning_rate) for each in killed.of(ev.LearningRateChanged)]
        assert rates == [(5, 5e-4)]  # That of step 4 is still in the journal.
        assert "5e-4 set after step 5 is later" in killed.of(ev.Warned)[0].message

    def test_a_rate_that_the_run_failed_with_is_not_set_again(self, make_run: MakeRun) -> None:
        run = make_run("iters=4")
        run.train(stop_after(2))
        run.events.append(ev.LearningRateChanged(step=3, learning_rate=0.5))
        run.events.append(ev.RunFailed(message="m", step=3, log="l", cause="not_finite"))
        run.train()
        assert {each.learning_rate for each in run.of(ev.StepFinished)} == {1e-3}
        assert "not set again, since the run failed" in run.of(ev.Warned)[0].message

    def test_a_new_rate_in_the_recipe_replaces_a_manual_one(self, make_run: MakeRun) -> None:
        run = make_run("iters=4", "learning_rate=1e-3")
        session = run.session(stop_after(2))
        session.set_learning_rate(0.5)
        session.prepare()
        session.run()
        run.recipe = apply_settings(run.recipe, ["learning_rate=5e-4"])
        run.train()
        assert run.of(ev.StepFinished)[0].learning_rate == 5e-4
        assert "replaces the one set manually" in run.of(ev.Warned)[0].message

    def test_more_iterations_continue_from_the_end(self, make_run: MakeRun) -> None:
        run = make_run("iters=2")
        run.train()
        run.recipe = apply_settings(run.recipe, ["iters=4"])
        assert run.train().step == 4
        assert [each.step for each in run.of(ev.StepFinished)] == [3, 4]

    def test_a_finished_run_has_nothing_left_to_do(self, make_run: MakeRun) -> None:
        run = make_run("iters=2", "val_batches=-1")
        run.train()
        finished = run.train()
        assert (finished.reason, finished.step) == ("completed", 2)
        assert run.of(ev.StepFinished) == run.of(ev.CheckpointSaved) == []

    def test_another_model_is_refused(self, make_run: MakeRun, tmp_path: Path) -> None:
        run = make_run("iters=4")
        run.train(stop_after(2))
        other = make_tiny_model(tmp_path / "other", hidden_size=48)
        run.recipe = apply_settings(run.recipe, [f"model={other}"])
        with pytest.raises(RunError, match=r"checkpoints/0000002: .* another model"):
            run.train()


class TestOtherWeights:
    """The model's folder holds other weights of the same shapes than the adapter's fingerprint."""

    @pytest.fixture
    def run(self, make_run: MakeRun, tmp_path: Path) -> Run:
        run = make_run(f"model={make_tiny_model(tmp_path / 'model')}")
        run.train(stop_after(2))
        weights = make_tiny_model(tmp_path / "model", seed=1) / "model.safetensors"
        # Whatever the file system's clock, it is newer than the first.
        written = weights.stat().st_mtime_ns + 10**9
        os.utime(weights, ns=(written, written))
        return run

    def test_a_resume_is_refused(self, run: Run) -> None:
        with pytest.raises(RunError, match="so a resume would not continue this run; bring back"):
            run.train()

    def test_a_new_run_that_starts_from_the_adapter_warns(
        self, run: Run, make_run: MakeRun, tmp_path: Path
    ) -> None:
        start = f"resume_adapter_file={run.directory.adapter_file}"
        again = make_run(f"model={tmp_path / 'model'}", start, "iters=1")
        again.train()
        assert any("trained on other weights" in each.message for each in again.of(ev.Warned))

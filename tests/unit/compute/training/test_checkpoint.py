"""Checkpoints: exact resume, damage, and disks that are full."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest

from mlxft.compute.training import checkpoint
from mlxft.compute.training.session import TrainingSession
from mlxft.errors import RunError, StorageError
from mlxft.recipe import apply_settings
from mlxft.runs import events as ev
from support.tiny_model import make_tiny_data, make_tiny_model
from support.training_runs import MakeRun, Run, stop_after

FULL_OF_STATE = (
    "iters=7",
    "lora_parameters.dropout=0.2",
    "grad_accumulation_steps=2",
    "lr_schedule.name=cosine_decay",
    "val_batches=-1",
    "steps_per_eval=3",
    "steps_per_report=1",
    "grad_checkpoint=true",
)


def train_in_parts(run: Run, *stops: int) -> list[float]:
    """The losses of all sessions, each but the last stopped after a step."""
    losses: list[float] = []
    for stop in stops:
        run.train(stop_after(stop))
        losses += run.losses
    run.train()
    return losses + run.losses


def checkpoints(run: Run) -> list[str]:
    return sorted(path.name for path in run.directory.checkpoints.iterdir())


def spoil(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class TestResumeWithOtherData:
    def test_it_is_said(self, make_run: MakeRun, tmp_path: Path) -> None:
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

    def test_it_is_not_said_of_the_same(self, make_run: MakeRun) -> None:
        settings = ("lr_schedule.name=cosine_decay", "lr_schedule.arguments=[1e-3,6]")
        run = make_run(*settings, "lora_parameters.keys=self_attn.q_proj")
        run.train(stop_after(3))
        run.train()
        assert not run.of(ev.Warned)


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
    def test_it_brings_the_optimizers_state(self, make_run: MakeRun, optimizer: str) -> None:
        settings = (f"optimizer={optimizer}", "iters=4", "optimizer_config={sgd: {momentum: 0.9}}")
        whole, parts = make_run(*settings), make_run(*settings)
        whole.train()
        train_in_parts(parts, 2)
        assert parts.adapter() == whole.adapter()

    def test_the_story_goes_on(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1", "steps_per_eval=2")
        before = run.train(stop_after(3))
        first = run.session()
        assert (first.start_step, first.step) == (3, 3)
        after = run.train()
        assert after.first_loss == before.first_loss
        assert after.trained_tokens > before.trained_tokens
        assert after.best_validation_step == 6

    def test_time_and_speed_are_of_the_whole_run(self, make_run: MakeRun) -> None:
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

    def test_a_checkpoint_without_an_account_says_from_where_it_counts(
        self, make_run: MakeRun
    ) -> None:
        run = make_run()
        run.train(stop_after(3))
        (state,) = run.directory.checkpoints.glob("*/state.json")
        manifest = json.loads(state.read_text())
        del manifest["state"]["spent"]
        state.write_text(json.dumps(manifest))
        stopped = run.train(stop_after(5))
        assert stopped.since_step == 3
        steps = run.of(ev.StepFinished)
        finished = run.train()
        steps += run.of(ev.StepFinished)
        assert finished.since_step == 3
        own = sum(each.tokens for each in steps) / sum(each.seconds for each in steps)
        assert finished.tokens_per_second == pytest.approx(own)

    def test_one_that_is_given_up_while_it_loads_tells_of_the_run_before(
        self, make_run: MakeRun
    ) -> None:
        run = make_run()
        before = run.train(stop_after(3))
        told = run.session().summary()
        assert (told.reason, told.step) == ("stopped", 3)
        assert 0 < told.seconds <= before.seconds
        assert told.tokens_per_second == before.tokens_per_second

    def test_one_that_trains_nothing_keeps_the_final_loss(self, make_run: MakeRun) -> None:
        run = make_run("iters=3")
        before = run.train()
        assert before.final_loss == run.losses[-1]
        assert run.train().final_loss == before.final_loss

    def test_a_checkpoint_of_before_it_was_kept_has_no_final_loss(self, make_run: MakeRun) -> None:
        run = make_run("iters=2")
        run.train()
        (state,) = run.directory.checkpoints.glob("*/state.json")
        manifest = json.loads(state.read_text())
        del manifest["state"]["final_loss"], manifest["state"]["sample_waits"]
        state.write_text(json.dumps(manifest))
        assert run.train().final_loss is None

    def test_a_rate_set_by_hand_stays(self, make_run: MakeRun) -> None:
        run = make_run("iters=4")
        session = run.session(stop_after(2))
        session.set_learning_rate(5e-4)
        session.prepare()
        session.run()
        run.train()
        assert run.of(ev.StepFinished)[0].learning_rate == 5e-4

    def test_a_new_rate_of_the_recipe_takes_the_place_of_one_set_by_hand(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("iters=4", "learning_rate=1e-3")
        session = run.session(stop_after(2))
        session.set_learning_rate(0.5)
        session.prepare()
        session.run()
        run.recipe = apply_settings(run.recipe, ["learning_rate=5e-4"])
        run.train()
        assert run.of(ev.StepFinished)[0].learning_rate == 5e-4
        assert "replaces the one set manually" in run.of(ev.Warned)[0].message

    def test_more_iterations_go_on_from_the_end(self, make_run: MakeRun) -> None:
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


class TestSaving:
    def test_the_last_three_stay(self, make_run: MakeRun) -> None:
        run = make_run("save_every=1")
        run.train()
        assert checkpoints(run) == ["0000004", "0000005", "0000006"]
        assert len(list(run.directory.path.glob("00000*_adapters.safetensors"))) == 6

    def test_it_comes_every_n_and_at_the_end(self, make_run: MakeRun) -> None:
        run = make_run("save_every=4")
        run.train()
        saved = run.of(ev.CheckpointSaved)
        assert [(each.step, each.path) for each in saved] == [
            (4, "checkpoints/0000004"),
            (6, "checkpoints/0000006"),
        ]

    def test_it_can_be_asked_for(self, make_run: MakeRun) -> None:
        run = make_run()

        def visit(session: TrainingSession) -> None:
            if session.step == 2 and not run.of(ev.CheckpointSaved):
                session.request_checkpoint()

        run.train(visit)
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [2, 6]

    def test_a_paused_run_saves_and_stays_paused(self, make_run: MakeRun) -> None:
        """A safe point that returns for a checkpoint is visited again before any step."""
        run, visits = make_run(), []

        def visit(session: TrainingSession) -> None:
            saved = len(run.of(ev.CheckpointSaved))
            visits.append((session.step, saved))
            if session.step == 2 and not saved:
                session.request_checkpoint()

        run.train(visit)
        assert visits[visits.index((2, 0)) + 1] == (2, 1)

    def test_the_layout_is_mlx_lms(self, make_run: MakeRun, tiny_model: Path) -> None:
        run = make_run("iters=2", "save_every=1")
        run.train()
        config = json.loads(run.directory.adapter_config_file.read_text())
        assert config["fine_tune_type"] == "lora"
        assert config["num_layers"] == 2
        assert config["lora_parameters"]["rank"] == 8
        earlier = run.directory.numbered_adapter_file(1)
        assert earlier.read_bytes() != run.adapter()
        shutil.copy(earlier, run.directory.adapter_file)
        mlx_lm.load(str(tiny_model), adapter_path=str(run.directory.path))

    def test_nothing_half_written_is_left(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1")
        run.train()
        names = {path.name for path in run.directory.path.rglob("*")}
        assert not [name for name in names if name.startswith(".") or ".new" in name]


def best(run: Run) -> bytes:
    return (run.directory.path / "best_adapters.safetensors").read_bytes()


class TestTheBest:
    SETTINGS = ("val_batches=-1", "steps_per_eval=2", "keep_checkpoints=1", "iters=8")

    def worse_from_four_on(self, make_run: MakeRun) -> Run:
        run = make_run(*self.SETTINGS, "save_every=1")

        def spoil(session: TrainingSession) -> None:
            if session.step == 4 and not run.of(ev.LearningRateChanged):
                session.set_learning_rate(1.0)
            if session.step == 7:
                session.request_stop()

        run.train(spoil)
        return run

    def test_it_has_a_checkpoint_of_its_own_that_stays(self, make_run: MakeRun) -> None:
        run = self.worse_from_four_on(make_run)
        assert checkpoints(run) == ["0000004", "0000007"]
        assert best(run) == run.directory.numbered_adapter_file(4).read_bytes()

    def test_a_validation_that_was_asked_for_is_saved_with_it(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1")

        def visit(session: TrainingSession) -> None:
            if session.step == 3 and not run.of(ev.ValidationFinished):
                session.request_validation()

        run.train(visit)
        saved = [(each.step, each.best) for each in run.of(ev.CheckpointSaved)]
        assert saved[0] == (3, True)

    def test_one_of_steps_that_are_trained_anew_gives_way(self, make_run: MakeRun) -> None:
        run = self.worse_from_four_on(make_run)
        expected = best(run)
        shutil.copy(run.directory.adapter_file, run.directory.path / "best_adapters.safetensors")
        run.train(stop_after(7))
        assert best(run) == expected

    def test_without_a_validation_before_the_checkpoint_there_is_none(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("save_every=1", "val_batches=-1", "steps_per_eval=3")
        run.train(stop_after(3))
        shutil.rmtree(run.directory.checkpoints / "0000003")
        run.train(stop_after(2))
        assert not (run.directory.path / "best_adapters.safetensors").exists()


class TestOrder:
    def test_the_newest_is_that_of_the_highest_step_also_where_its_name_is_longer(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("save_every=2", "iters=4")
        run.train()
        for step, renamed in ((2, 9_999_999), (4, 10_000_000)):
            folder = run.directory.checkpoints / f"{step:07d}"
            state = json.loads((folder / "state.json").read_text())
            state["state"]["step"] = renamed
            (folder / "state.json").write_text(json.dumps(state))
            folder.rename(run.directory.checkpoints / f"{renamed:07d}")
        found, refusals = checkpoint.newest(run.directory, run.directory.recipe())
        assert found is not None
        assert (found.state.step, refusals) == (10_000_000, [])


class TestDamage:
    def stopped_at_four(self, make_run: MakeRun) -> Run:
        run = make_run("save_every=2")
        run.train(stop_after(4))
        return run

    @pytest.mark.parametrize("name", ["adapters.safetensors", "training.safetensors"])
    def test_a_changed_file_is_noticed_and_the_one_before_used(
        self, make_run: MakeRun, name: str
    ) -> None:
        run = self.stopped_at_four(make_run)
        spoil(run.directory.checkpoints / "0000004" / name)
        assert run.session().start_step == 2
        run.train()
        message = run.of(ev.Warned)[0].message
        assert "checkpoints/0000004" in message
        assert f"damaged {name}" in message

    @pytest.mark.parametrize("name", ["adapters.safetensors", "training.safetensors", "state.json"])
    def test_a_missing_or_torn_file_is_noticed(self, make_run: MakeRun, name: str) -> None:
        run = self.stopped_at_four(make_run)
        newest = run.directory.checkpoints / "0000004"
        data = (newest / name).read_bytes()
        (newest / name).write_bytes(data[: len(data) // 2])
        assert run.session().start_step == 2
        (newest / name).unlink()
        assert run.session().start_step == 2

    def test_one_of_another_recipe_is_refused_by_name(self, make_run: MakeRun) -> None:
        run, other = self.stopped_at_four(make_run), make_run("rank=4", "save_every=4")
        other.train(stop_after(4))
        shutil.copytree(
            other.directory.checkpoints / "0000004", run.directory.checkpoints / "0000009"
        )
        run.train()
        assert "0000009: this checkpoint is of another recipe" in run.of(ev.Warned)[0].message

    def test_one_under_another_name_is_refused(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        newest = run.directory.checkpoints / "0000004"
        newest.rename(newest.with_name("0000005"))
        assert run.session().start_step == 2

    def test_without_a_whole_one_the_run_starts_again(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        for folder in run.directory.checkpoints.iterdir():
            (folder / "state.json").unlink()
        trained = run.adapter()
        run.train()
        assert run.of(ev.StepFinished)[0].step == 1
        assert checkpoints(run) == ["0000002", "0000004", "0000006"]
        message = run.of(ev.Warned)[-1].message
        assert "training starts from step 0" in message
        kept = run.directory.path / "earlier-1_adapters.safetensors"
        assert kept.name in message
        assert kept.read_bytes() == trained != run.adapter()

    def test_all_of_another_recipe_refuse_the_run(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        run.recipe = apply_settings(run.recipe, ["rank=4", "optimizer=sgd"])
        with pytest.raises(RunError, match=r"\(lora_parameters.rank 8 → 4, optimizer adam → sgd\)"):
            run.session()

    def test_a_save_that_broke_off_is_cleared_away(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        left = run.directory.checkpoints / ".0000006.new"
        left.mkdir()
        (left / "adapters.safetensors").write_bytes(b"half")
        run.train()
        assert checkpoints(run) == ["0000002", "0000004", "0000006"]

    def test_files_of_a_save_that_was_killed_are_cleared_away(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        for name in (".0000006_adapters.new.safetensors", ".best_adapters.new.safetensors"):
            (run.directory.path / name).write_bytes(b"half")
        (run.directory.checkpoints / ".0000006.new").mkdir()
        run.session()
        assert not list(run.directory.path.rglob(".*"))

    def test_a_checkpoint_that_was_being_replaced_is_put_back(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        newest = run.directory.checkpoints / "0000004"
        newest.rename(newest.with_name(".0000004.old"))
        assert run.session().start_step == 4


class TestStorage:
    def test_a_checkpoint_that_cannot_be_replaced_stays(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = make_run("iters=2")
        run.train()
        state = run.directory.checkpoints / "0000002" / "state.json"
        before = state.read_bytes()
        spoil(state.with_name("training.safetensors"))
        rename = Path.rename

        def failing(path: Path, target: Path) -> Path:
            if path.name.endswith(".new"):
                raise OSError(28, "No space left on device")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises(StorageError, match="No space left"):
            run.train()
        assert state.read_bytes() == before
        assert [path.name for path in run.directory.checkpoints.iterdir()] == ["0000002"]

    def test_a_deleted_run_is_not_made_again(self, make_run: MakeRun) -> None:
        run = make_run("save_every=2")

        def delete(session: TrainingSession) -> None:
            if session.step == 1:
                shutil.rmtree(run.directory.path)

        with pytest.raises(StorageError, match="can't be saved"):
            run.train(delete)
        assert not run.directory.path.exists()

    def test_a_full_disk_is_a_sentence_and_loses_nothing(self, make_run: MakeRun) -> None:
        """A limit on the size of a file stands in for a full disk."""
        run = make_run("iters=4")
        run.train(stop_after(2))
        saved = run.adapter()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(StorageError, match=r"can't be saved .* free disk space"):
                run.train()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert run.adapter() == saved
        assert checkpoints(run) == ["0000002"]
        assert run.train().step == 4

    def test_the_files_are_the_owners_only(self, make_run: MakeRun) -> None:
        run = make_run("iters=1")
        run.train()
        folder = run.directory.checkpoints / "0000001"
        assert run.directory.checkpoints.stat().st_mode & 0o077 == 0
        assert folder.stat().st_mode & 0o077 == 0

    def test_arrays_come_back_as_they_were(self, make_run: MakeRun) -> None:
        run = make_run("iters=2", "fine_tune_type=dora")
        run.train()
        saved = mx.load(str(run.directory.adapter_file))
        kept = mx.load(str(run.directory.checkpoints / "0000002" / "adapters.safetensors"))
        assert isinstance(saved, dict)
        assert isinstance(kept, dict)
        assert all(mx.array_equal(saved[name], kept[name]) for name in saved)

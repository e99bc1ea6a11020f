"""Checkpoints: what is saved, the best one, damage and full disks."""

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
from support.training import MakeRun, Run, stop_after


def checkpoints(run: Run) -> list[str]:
    return sorted(path.name for path in run.directory.checkpoints.iterdir())


def spoil(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class TestSaving:
    def test_the_last_three_are_kept(self, make_run: MakeRun) -> None:
        run = make_run("save_every=1")
        run.train()
        assert checkpoints(run) == ["0000004", "0000005", "0000006"]
        assert len(list(run.directory.path.glob("00000*_adapters.safetensors"))) == 6

    def test_it_happens_every_n_steps_and_at_the_end(self, make_run: MakeRun) -> None:
        run = make_run("save_every=4")
        run.train()
        saved = run.of(ev.CheckpointSaved)
        assert [(each.step, each.path) for each in saved] == [
            (4, "checkpoints/0000004"),
            (6, "checkpoints/0000006"),
        ]

    def test_it_can_be_requested(self, make_run: MakeRun) -> None:
        run = make_run()

        def visit(session: TrainingSession) -> None:
            if session.step == 2 and not run.of(ev.CheckpointSaved):
                session.request_checkpoint()

        run.train(visit)
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [2, 6]

    def test_a_paused_run_saves_and_stays_paused(self, make_run: MakeRun) -> None:
        """After a checkpoint the safe point is visited again before any step."""
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

    def test_no_temporary_file_remains(self, make_run: MakeRun) -> None:
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

    def test_it_has_a_checkpoint_that_is_kept(self, make_run: MakeRun) -> None:
        run = self.worse_from_four_on(make_run)
        assert checkpoints(run) == ["0000004", "0000007"]
        assert best(run) == run.directory.numbered_adapter_file(4).read_bytes()

    def test_a_requested_validation_is_saved(self, make_run: MakeRun) -> None:
        run = make_run("val_batches=-1")

        def visit(session: TrainingSession) -> None:
            if session.step == 3 and not run.of(ev.ValidationFinished):
                session.request_validation()

        run.train(visit)
        saved = [(each.step, each.best) for each in run.of(ev.CheckpointSaved)]
        assert saved[0] == (3, True)

    def test_one_of_repeated_steps_is_replaced(self, make_run: MakeRun) -> None:
        run = self.worse_from_four_on(make_run)
        expected = best(run)
        shutil.copy(run.directory.adapter_file, run.directory.path / "best_adapters.safetensors")
        run.train(stop_after(7))
        assert best(run) == expected

    def test_there_is_none_without_a_validation_before_the_checkpoint(
        self, make_run: MakeRun
    ) -> None:
        run = make_run("save_every=1", "val_batches=-1", "steps_per_eval=3")
        run.train(stop_after(3))
        shutil.rmtree(run.directory.checkpoints / "0000003")
        run.train(stop_after(2))
        assert not (run.directory.path / "best_adapters.safetensors").exists()


class TestOrder:
    def test_the_newest_has_the_highest_step_even_with_a_longer_name(
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
    def test_with_a_changed_file_the_previous_one_is_used(
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
    def test_with_a_missing_or_truncated_file_the_previous_one_is_used(
        self, make_run: MakeRun, name: str
    ) -> None:
        run = self.stopped_at_four(make_run)
        newest = run.directory.checkpoints / "0000004"
        data = (newest / name).read_bytes()
        (newest / name).write_bytes(data[: len(data) // 2])
        assert run.session().start_step == 2
        (newest / name).unlink()
        assert run.session().start_step == 2

    def test_one_of_another_recipe_is_named(self, make_run: MakeRun) -> None:
        run, other = self.stopped_at_four(make_run), make_run("rank=4", "save_every=4")
        other.train(stop_after(4))
        shutil.copytree(
            other.directory.checkpoints / "0000004", run.directory.checkpoints / "0000009"
        )
        run.train()
        assert "0000009: this checkpoint is of another recipe" in run.of(ev.Warned)[0].message

    def test_a_renamed_one_is_ignored(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        newest = run.directory.checkpoints / "0000004"
        newest.rename(newest.with_name("0000005"))
        assert run.session().start_step == 2

    def test_without_an_intact_one_the_run_starts_over(self, make_run: MakeRun) -> None:
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

    def test_a_run_with_only_foreign_ones_is_refused(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        run.recipe = apply_settings(run.recipe, ["rank=4", "optimizer=sgd"])
        with pytest.raises(RunError, match=r"\(lora_parameters.rank 8 → 4, optimizer adam → sgd\)"):
            run.session()

    def test_an_interrupted_save_is_removed(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        left = run.directory.checkpoints / ".0000006.new"
        left.mkdir()
        (left / "adapters.safetensors").write_bytes(b"half")
        run.train()
        assert checkpoints(run) == ["0000002", "0000004", "0000006"]

    def test_temporary_files_of_a_killed_save_are_removed(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        for name in (".0000006_adapters.new.safetensors", ".best_adapters.new.safetensors"):
            (run.directory.path / name).write_bytes(b"half")
        (run.directory.checkpoints / ".0000006.new").mkdir()
        run.session()
        assert not list(run.directory.path.rglob(".*"))

    def test_a_checkpoint_that_was_being_replaced_is_restored(self, make_run: MakeRun) -> None:
        run = self.stopped_at_four(make_run)
        newest = run.directory.checkpoints / "0000004"
        newest.rename(newest.with_name(".0000004.old"))
        assert run.session().start_step == 4


class TestStorage:
    def test_a_checkpoint_that_cannot_be_replaced_is_kept(
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

    def test_a_deleted_run_is_not_created_again(self, make_run: MakeRun) -> None:
        run = make_run("save_every=2")

        def delete(session: TrainingSession) -> None:
            if session.step == 1:
                shutil.rmtree(run.directory.path)

        with pytest.raises(StorageError, match="can't be saved"):
            run.train(delete)
        assert not run.directory.path.exists()

    def test_a_full_disk_is_one_sentence_and_loses_nothing(self, make_run: MakeRun) -> None:
        """A limit on the file size acts like a full disk."""
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

    def test_only_the_owner_can_read_the_files(self, make_run: MakeRun) -> None:
        run = make_run("iters=1")
        run.train()
        folder = run.directory.checkpoints / "0000001"
        assert run.directory.checkpoints.stat().st_mode & 0o077 == 0
        assert folder.stat().st_mode & 0o077 == 0

    def test_the_adapter_equals_the_checkpoints(self, make_run: MakeRun) -> None:
        run = make_run("iters=2", "fine_tune_type=dora")
        run.train()
        saved = mx.load(str(run.directory.adapter_file))
        kept = mx.load(str(run.directory.checkpoints / "0000002" / "adapters.safetensors"))
        assert isinstance(saved, dict)
        assert isinstance(kept, dict)
        assert all(mx.array_equal(saved[name], kept[name]) for name in saved)

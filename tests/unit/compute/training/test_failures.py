"""NaN, infinite and out-of-memory steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from mlxft.compute.training import step as steps
from mlxft.errors import DataError, RunError
from mlxft.runs import events as ev
from support.models import make_tiny_model
from support.training import MakeRun, write_records


def fail_at_step_4(monkeypatch: pytest.MonkeyPatch) -> None:
    good = steps.Stepper.add_gradient

    def spoiled(stepper: Any, step: int, batch: Any) -> steps.StepResult:
        result = good(stepper, step, batch)
        return steps.StepResult(math.nan, result.tokens, math.nan) if step == 4 else result

    monkeypatch.setattr(steps.Stepper, "add_gradient", spoiled)


class TestFailures:
    def test_a_loss_of_nan_costs_no_good_step(
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

    @pytest.mark.parametrize("loss", [100.0, math.nan])
    def test_diverged_weights_are_not_saved(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, loss: float
    ) -> None:
        run = make_run("save_every=2")
        fail_at_step_4(monkeypatch)
        monkeypatch.setattr(steps.Stepper, "loss", lambda *_: steps.BatchLoss(loss, 5, 5.0))
        with pytest.raises(RunError, match=r"from step 2.* Steps after 2 are discarded"):
            run.train()
        assert [each.step for each in run.of(ev.CheckpointSaved)] == [2]

    def test_an_infinite_gradient_is_found_before_the_update(
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

    def test_a_validation_loss_of_nan_is_never_the_best(
        self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps.Stepper, "loss", lambda *_: steps.BatchLoss(math.nan, 5, 5.0))
        run = make_run("val_batches=-1", "iters=1")
        assert run.train().best_validation_loss is None
        assert "validation loss is nan" in run.of(ev.Warned)[0].message

    def test_records_without_a_target_are_omitted_and_counted(
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

    def test_no_target_at_all_is_one_sentence(self, make_run: MakeRun, tmp_path: Path) -> None:
        long = {"prompt": "word " * 100, "completion": "x"}
        data = write_records(tmp_path / "long", long, long)
        run = make_run(f"data={data}", "mask_prompt=true", "max_seq_length=64")
        with pytest.raises(DataError, match=r"train\.jsonl: no record has a token to train"):
            run.train()

    def test_out_of_memory_names_the_remedy(
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

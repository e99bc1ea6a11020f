"""Equal batches give the losses of mlx_lm's own trainer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import mlx_lm
import pytest
from mlx_lm.tuner import trainer
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers

from mlxft import recipe as recipes
from mlxft.compute.tokenization import load_tokenizer
from mlxft.compute.training import batches
from mlxft.data.dataset import require_trainable
from mlxft.recipe import Recipe
from mlxft.runs import events as ev
from support.training import MakeRun, Run

_OPTIMIZERS = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "muon": optim.Muon,
    "adafactor": optim.Adafactor,
}


class Losses:
    """mlx_lm's callback: the losses it reports."""

    def __init__(self) -> None:
        self.train: list[float] = []
        self.validation: list[float] = []

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        self.train.append(info["train_loss"])

    def on_val_loss_report(self, info: dict[str, Any]) -> None:
        self.validation.append(info["val_loss"])


def our_batches(
    recipe: Recipe, loop: bool = False, **_: Any
) -> Iterator[tuple[mx.array, mx.array]]:
    """Our batches, of the validation set without `loop`; mlx_lm's mask trains the position after a
    row's end, so its rows end earlier."""
    tokenizer = load_tokenizer(Path(recipe.model), False)
    train, valid = require_trainable(Path(recipe.data), recipe)
    split = batches.tokenize_split(tokenizer, train if loop else valid, recipe, seed=recipe.seed)
    plan = split.plan
    for batch in map(plan.batch, itertools.count(1)) if loop else plan.epoch(0):
        ends = [plan.lengths[index] - 1 for index in batch.sequences]
        starts = [split.sequences[index].spans[0].start for index in batch.sequences]
        yield split.arrays(batch).tokens, mx.array([starts, ends]).T


def mlx_lm_losses(recipe: Recipe, adapter_file: Path) -> list[float]:
    return mlx_lm_reports(recipe, adapter_file).train


def mlx_lm_reports(
    recipe: Recipe, adapter_file: Path, steps_per_report: int = 1, validates: bool = False
) -> Losses:
    model, _ = mlx_lm.load(recipe.model)
    mapping = recipes.to_mapping(recipe)
    mx.random.seed(recipe.seed)
    model.freeze()
    if recipe.fine_tune_type == "full":
        for layer in model.layers[-recipe.num_layers :]:
            layer.unfreeze()
    else:
        linear_to_lora_layers(
            model,
            recipe.num_layers,
            mapping["lora_parameters"],
            use_dora=recipe.fine_tune_type == "dora",
        )
    rate = (
        build_schedule(mapping["lr_schedule"]) if mapping["lr_schedule"] else recipe.learning_rate
    )
    optimizer = _OPTIMIZERS[recipe.optimizer](learning_rate=rate)
    losses = Losses()
    trainer.train(
        model,
        optimizer,
        train_dataset=None,
        # Any object of the validation set's length: the batches are ours.
        val_dataset=range(1000) if validates else None,
        args=trainer.TrainingArgs(
            iters=recipe.iters,
            val_batches=-1,
            steps_per_report=steps_per_report,
            adapter_file=str(adapter_file),
            grad_accumulation_steps=recipe.grad_accumulation_steps,
            grad_checkpoint=False,
        ),
        iterate_batches=partial(our_batches, recipe),
        training_callback=losses,
    )
    return losses


def agree(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mlx_lm.safetensors"
    theirs = mlx_lm_losses(run.recipe, file)
    run.train()
    assert len(set(theirs)) == len(theirs)
    assert run.losses == pytest.approx(theirs, abs=1e-5)
    expected, ours = mx.load(str(file)), mx.load(str(run.directory.adapter_file))
    assert isinstance(expected, dict)
    assert isinstance(ours, dict)
    assert expected.keys() == ours.keys()
    assert all(mx.allclose(ours[name], each, atol=1e-4) for name, each in expected.items())


class TestAgreement:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_of_each_fine_tune_type(self, make_run: MakeRun, tmp_path: Path, kind: str) -> None:
        agree(make_run(f"fine_tune_type={kind}"), tmp_path)

    @pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "adafactor"])
    def test_of_each_optimizer(self, make_run: MakeRun, tmp_path: Path, optimizer: str) -> None:
        agree(make_run(f"optimizer={optimizer}"), tmp_path)

    @pytest.mark.parametrize("name", ["cosine_decay", "step_decay", "exponential_decay"])
    def test_of_schedules_with_warmup(self, make_run: MakeRun, tmp_path: Path, name: str) -> None:
        run = make_run(f"lr_schedule.name={name}", "warmup=2", "warmup_init=1e-4", "iters=8")
        agree(run, tmp_path)

    def test_of_reports_and_the_baseline(self, make_run: MakeRun, tmp_path: Path) -> None:
        run = make_run("val_batches=-1", "val_at_start=true", "iters=5")
        theirs = mlx_lm_reports(run.recipe, tmp_path / "mlx_lm.safetensors", 2, validates=True)
        run.train()
        reports = [each.loss for each in run.of(ev.TrainReported)]
        assert len(reports) == 3
        assert reports == pytest.approx(theirs.train, abs=1e-5)
        baseline = run.of(ev.ValidationFinished)[0]
        assert (baseline.step, baseline.loss) == (0, pytest.approx(theirs.validation[0], abs=1e-5))

    def test_of_truncated_masked_prompts(self, make_run: MakeRun, tmp_path: Path) -> None:
        agree(make_run("mask_prompt=true", "max_seq_length=72"), tmp_path)

    def test_of_accumulated_gradients(self, make_run: MakeRun, tmp_path: Path) -> None:
        run = make_run(
            "grad_accumulation_steps=2",
            "grad_accumulation_by=steps",
            "lr_schedule.name=linear_schedule",
        )
        file = tmp_path / "mlx_lm.safetensors"
        theirs = mlx_lm_losses(run.recipe, file)
        run.train()
        assert run.losses == pytest.approx(theirs, abs=1e-5)

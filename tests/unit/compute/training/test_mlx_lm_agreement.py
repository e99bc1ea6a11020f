"""Equal batches give the losses of mlx_lm's own trainer."""

from __future__ import annotations

from collections.abc import Iterator
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
from support.training import MakeRun, Run

_OPTIMIZERS = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "muon": optim.Muon,
    "adafactor": optim.Adafactor,
}


class Losses:
    """mlx_lm's callback: the loss of every step."""

    def __init__(self) -> None:
        self.train: list[float] = []

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        self.train.append(info["train_loss"])

    def on_val_loss_report(self, info: dict[str, Any]) -> None:
        pass


def our_batches(recipe: Recipe) -> Iterator[tuple[mx.array, mx.array]]:
    """Our batches; mlx_lm's mask trains the position after a row's end, so its rows end earlier."""
    tokenizer = load_tokenizer(Path(recipe.model), False)
    train, _ = require_trainable(Path(recipe.data), recipe)
    split = batches.tokenize_split(tokenizer, train, recipe, seed=recipe.seed)
    step = 1
    while True:
        batch = split.plan.batch(step)
        ends = [split.plan.lengths[index] - 1 for index in batch.sequences]
        starts = [split.sequences[index].first_trained for index in batch.sequences]
        yield split.arrays(batch).tokens, mx.array([starts, ends]).T
        step += 1


def mlx_lm_losses(recipe: Recipe, adapter_file: Path) -> list[float]:
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
        args=trainer.TrainingArgs(
            iters=recipe.iters,
            steps_per_report=1,
            adapter_file=str(adapter_file),
            grad_accumulation_steps=recipe.grad_accumulation_steps,
            grad_checkpoint=False,
        ),
        iterate_batches=lambda **_: our_batches(recipe),
        training_callback=losses,
    )
    return losses.train


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

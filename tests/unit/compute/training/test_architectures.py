"""Every model family gives the losses of mlx_lm's own trainer."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.tuner import trainer
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import _get_classes

from mlxft import recipe as recipes
from mlxft.compute.arrays import named_arrays
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import Loss, chunked_loss, plain_loss, verified
from mlxft.compute.training.step import Stepper
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe, apply_settings
from support.models import ARCHITECTURES, VOCABULARY

STEPS = 3
GROUP_SIZE = 32
RATE = 1e-3
TOLERANCE = 3e-6

SPANS = ((0, 25), (3, 17))
"""First trained token and end of each row of a batch; longer than the sliding windows."""

EXPERTS = (
    "deepseek_v2",
    "deepseek_v3",
    "gpt_oss",
    "granitemoe",
    "lfm2_moe",
    "mixtral",
    "olmoe",
    "qwen2_moe",
    "qwen3_moe",
    "qwen3_next",
)
"""Families with switch layers, for which mlx_lm has no DoRA."""

ATTENTION = {
    **dict.fromkeys(EXPERTS, "self_attn.q_proj,self_attn.v_proj"),
    "deepseek_v2": "self_attn.q_a_proj,self_attn.q_b_proj",
    "deepseek_v3": "self_attn.q_a_proj,self_attn.q_b_proj",
    # It reads the routers' weight, which mlx_lm's LoRA layers don't have.
    "gemma3n": "self_attn.q_proj,self_attn.v_proj,mlp.down_proj",
}
"""The layers to train in families where not all can be."""


@cache
def rows(step: int) -> np.ndarray:
    """A batch's tokens (2, 25), padded with 0."""
    tokens = np.random.default_rng(step).integers(0, VOCABULARY, (2, 25), np.int32)
    tokens[1, SPANS[1][1] :] = 0
    return tokens


def make_model(family: str, bits: int | None) -> Any:
    """A model with random weights, including norms, biases and sinks, which start at 0 or 1."""
    config = ARCHITECTURES[family]
    model_class, arguments = _get_classes(config)
    mx.random.seed(7)
    model = model_class(arguments.from_dict(config))
    model.update(
        tree_map(
            lambda array: (
                array + 0.05 * mx.random.normal(array.shape, array.dtype)
                if mx.issubdtype(array.dtype, mx.floating)
                else array
            ),
            model.parameters(),
        )
    )
    if bits is not None:
        nn.quantize(model, GROUP_SIZE, bits, class_predicate=_fits_groups)
    mx.eval(model.parameters())
    return model


def _fits_groups(_: str, module: Any) -> bool:
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % GROUP_SIZE == 0


def make_recipe(family: str, kind: str) -> Recipe:
    keys = ATTENTION.get(family) if kind == "dora" or family == "gemma3n" else None
    settings = [f"fine_tune_type={kind}", "num_layers=2", "rank=4", f"learning_rate={RATE}"]
    return apply_settings(Recipe(), [*settings, *([f"keys={keys}"] if keys else [])])


class Losses:
    """mlx_lm's callback: the loss of every step."""

    def __init__(self) -> None:
        self.train: list[float] = []

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        self.train.append(info["train_loss"])

    def on_val_loss_report(self, info: dict[str, Any]) -> None:
        pass


def mlx_lm_losses(model: Any, recipe: Recipe, folder: Path) -> list[float]:
    parameters = recipes.to_mapping(recipe)["lora_parameters"]
    mx.random.seed(recipe.seed)
    model.freeze()
    linear_to_lora_layers(
        model, recipe.num_layers, parameters, use_dora=recipe.fine_tune_type == "dora"
    )
    # Its mask trains the position after a row's end, so its rows end one earlier.
    spans = mx.array(SPANS) - mx.array([0, 1])
    losses = Losses()
    trainer.train(
        model,
        optim.Adam(RATE),
        train_dataset=None,
        args=trainer.TrainingArgs(
            iters=STEPS, steps_per_report=1, adapter_file=str(folder / "adapters.safetensors")
        ),
        iterate_batches=lambda **_: ((mx.array(rows(step)), spans) for step in range(STEPS)),
        training_callback=losses,
    )
    return losses.train


def our_losses(model: Any, recipe: Recipe, grad_checkpoint: bool) -> list[float]:
    adapters.attach(LoadedModel(model, {}, "", "", 0), recipe)
    optimizer = optim.Adam(RATE)
    optimizer.init(model.trainable_parameters())
    loss, _ = verified(model)
    stepper = Stepper(
        model, optimizer, seed=recipe.seed, grad_checkpoint=grad_checkpoint, loss=loss
    )
    trained = np.array([[first <= each < end for each in range(25)] for first, end in SPANS])
    losses = []
    for step in range(STEPS):
        losses.append(stepper.add_gradient(step + 1, batch_arrays(rows(step), trained)).loss)
        stepper.update(RATE)
    return losses


@pytest.mark.parametrize("bits", [None, 4], ids=["plain", "4bit"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", ARCHITECTURES)
class TestLosses:
    def test_equal_mlx_lms_with_and_without_checkpointing(
        self, tmp_path: Path, family: str, kind: str, bits: int | None
    ) -> None:
        recipe = make_recipe(family, kind)
        theirs = mlx_lm_losses(make_model(family, bits), recipe, tmp_path)
        assert len(set(theirs)) == STEPS
        for grad_checkpoint in (False, True):
            ours = our_losses(make_model(family, bits), recipe, grad_checkpoint)
            assert ours == pytest.approx(theirs, rel=TOLERANCE)


def loss_of(family: str) -> tuple[Loss, str | None]:
    model = make_model(family, None)
    adapters.attach(LoadedModel(model, {}, "", "", 0), make_recipe(family, "lora"))
    return verified(model)


class TestChunkedLoss:
    @pytest.mark.parametrize("family", [each for each in ARCHITECTURES if each != "gemma3n"])
    def test_fits_the_family(self, family: str) -> None:
        assert loss_of(family) == (chunked_loss, None)

    def test_gemma3n_falls_back_to_the_plain_loss_with_the_reason(self) -> None:
        loss, reason = loss_of("gemma3n")
        assert loss is plain_loss
        assert reason is not None
        assert "vocab_size" in reason


class TestDora:
    @pytest.mark.parametrize("bits", [None, 4], ids=["plain", "4bit"])
    @pytest.mark.parametrize("family", EXPERTS)
    def test_experts_are_refused_as_in_mlx_lm(self, family: str, bits: int | None) -> None:
        recipe = apply_settings(Recipe(), ["fine_tune_type=dora", "num_layers=2"])
        parameters = recipes.to_mapping(recipe)["lora_parameters"]
        model = make_model(family, bits)
        with pytest.raises(ValueError, match="SwitchLinear doesn't support DoRA"):
            linear_to_lora_layers(model, 2, parameters, use_dora=True)
        model = make_model(family, bits)
        with pytest.raises(RecipeError, match="SwitchLinear doesn't support DoRA"):
            adapters.attach(LoadedModel(model, {}, "", "", 0), recipe)


class TestGemma3n:
    def test_lora_on_its_routers_fails_in_mlx_lm_too(self) -> None:
        recipe = apply_settings(Recipe(), ["num_layers=2"])
        model = make_model("gemma3n", None)
        adapters.attach(LoadedModel(model, {}, "", "", 0), recipe)
        assert any("altup" in name for name in named_arrays(model.trainable_parameters()))
        with pytest.raises(AttributeError, match="no attribute 'weight'"):
            trainer.default_loss(model, mx.array(rows(0)), mx.array(SPANS))

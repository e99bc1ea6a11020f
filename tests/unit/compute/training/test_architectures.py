"""Every model family gives the losses of mlx_lm's own trainer."""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm import models
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner import trainer
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlxft import recipe as recipes
from mlxft.compute.arrays import named_arrays, number
from mlxft.compute.models import adapters
from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.start_checks import Verified, stuck_adapters, verified
from mlxft.compute.training.step import Stepper
from mlxft.errors import ModelError, RecipeError
from mlxft.recipe import Recipe, apply_settings
from support.architectures import VOCABULARY
from support.families import attached, lora_recipe, make_model, table, tried
from support.more_architectures import FAMILIES

STEPS = 2
RATE = 1e-3
TOLERANCE = 1e-5

SPANS = ((0, 25), (3, 17))
"""First trained token and end of each row of a batch; longer than the sliding windows."""

UNTRIED = ("olmo", "phi3small", "muse_spark", "prism_hadamard_qwen35")
"""Modules that end the process, need Metal, or hold packed weights alone."""

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
}
"""The layers that DoRA can train in families where not all can be."""

WITH_DORA = (
    "llama",
    "qwen2",
    "qwen3_next",
    "gemma2",
    "gemma3n",
    "phi3",
    "mixtral",
    "granite",
    "cohere2",
    "deepseek_v3",
    "gpt_oss",
    "lfm2",
)
"""Families whose layers, heads or attention differ; the rest is covered by LoRA."""


@cache
def rows(step: int) -> np.ndarray:
    """A batch's tokens (2, 25), padded with 0."""
    tokens = np.random.default_rng(step).integers(0, VOCABULARY, (2, 25), np.int32)
    tokens[1, SPANS[1][1] :] = 0
    return tokens


def make_recipe(family: str, kind: str) -> Recipe:
    keys = [f"keys={ATTENTION[family]}"] if kind == "dora" and family in ATTENTION else []
    return lora_recipe(family, f"fine_tune_type={kind}", f"learning_rate={RATE}", *keys)


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


def our_losses(model: Any, recipe: Recipe, checked: Verified) -> list[float]:
    optimizer = optim.Adam(RATE)
    optimizer.init(model.trainable_parameters())
    stepper = Stepper(
        model,
        optimizer,
        seed=recipe.seed,
        grad_checkpoint=checked.grad_checkpoint,
        loss=replace(checked.loss, with_cache=False),
    )
    trained = np.array([[first <= each < end for each in range(25)] for first, end in SPANS])
    losses = []
    for step in range(STEPS):
        losses.append(stepper.add_gradient(step + 1, batch_arrays(rows(step), trained)).loss)
        stepper.update(RATE)
    return losses


def assert_mlx_lms(model: Any, checked: Verified, theirs: list[float], recipe: Recipe) -> None:
    """Our losses from here on are those of mlx_lm, with checkpointing (if checked) and without."""
    assert len(set(theirs)) == STEPS
    begun = named_arrays(model.trainable_parameters())
    for each in dict.fromkeys((replace(checked, grad_checkpoint=False), checked)):
        model.load_weights(list(begun.items()), strict=False)
        assert our_losses(model, recipe, each) == pytest.approx(theirs, rel=TOLERANCE)


class TestFamilies:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_train_as_the_table_says_with_mlx_lms_losses(self, tmp_path: Path, family: str) -> None:
        """But for Gemma 3n's caches, which mlx_lm trains without."""
        found = tried(family)
        assert found.row == table()[family]
        if found.checked:
            recipe = make_recipe(family, "lora")
            theirs = mlx_lm_losses(make_model(family), recipe, tmp_path)
            assert_mlx_lms(found.model, found.checked, theirs, recipe)

    def test_are_all_that_mlx_lm_ships(self) -> None:
        shared = "activations base bitlinear_layers cache gated_delta mla pipeline rope_utils ssm"
        modules = {each.name for each in pkgutil.iter_modules(models.__path__)}
        modules -= {*shared.split(), "switch_layers", *UNTRIED}
        assert set(FAMILIES) >= modules
        assert set(table()) == set(FAMILIES)


def gradient(family: str, with_cache: bool) -> tuple[Any, dict[str, mx.array]]:
    """A model, and the gradient of a batch by its adapter."""
    model = attached(make_model(family), lora_recipe(family))
    batch = batch_arrays(rows(0), rows(0) > 0)
    loss = Loss(chunked=False, with_cache=with_cache)

    def place(weights: Any) -> Any:
        model.update(weights)
        return model

    return model, named_arrays(loss.with_gradient(place, model.trainable_parameters(), batch)[1])


class TestGemma3n:
    def test_is_trained_as_it_answers(self) -> None:
        model = attached(make_model("gemma3n"), lora_recipe("gemma3n"))
        checked = verified(model, grad_checkpoint=True)
        batch = batch_arrays(rows(0), np.ones((2, 25), np.bool_))
        logits = model(batch.tokens[:, :-1], cache=make_prompt_cache(model))
        answered = mx.fast.cross_entropy(logits.reshape(-1, VOCABULARY), batch.targets[:48])
        assert number(checked.loss(model, batch)[0]) == pytest.approx(
            number(answered.mean()), rel=1e-5
        )
        alone = Loss(chunked=False)(model, batch)[0]
        assert abs(number(alone) - number(answered.mean())) > 0.01

    def test_layers_that_reuse_keys_and_values_leave_theirs_untrained(self) -> None:
        _, trained = gradient("gemma3n", with_cache=True)
        _, without = gradient("gemma3n", with_cache=False)
        last = "model.language_model.layers.2.self_attn.k_proj.lora_b"
        assert number(mx.abs(trained[last]).max()) == 0 < number(mx.abs(without[last]).max())


class TestDora:
    @pytest.mark.parametrize("family", WITH_DORA)
    def test_trains_quantized_layers_with_mlx_lms_losses(self, tmp_path: Path, family: str) -> None:
        recipe = make_recipe(family, "dora")
        theirs = mlx_lm_losses(make_model(family, 4), recipe, tmp_path)
        model = attached(make_model(family, 4), recipe)
        checked = verified(model, grad_checkpoint=True)
        assert checked.grad_checkpoint
        assert_mlx_lms(model, checked, theirs, recipe)

    @pytest.mark.parametrize("family", EXPERTS)
    def test_experts_are_refused_as_in_mlx_lm(self, family: str) -> None:
        recipe = apply_settings(Recipe(), ["fine_tune_type=dora", "num_layers=2"])
        parameters = recipes.to_mapping(recipe)["lora_parameters"]
        model = make_model(family, 4)
        with pytest.raises(ValueError, match="SwitchLinear doesn't support DoRA"):
            linear_to_lora_layers(model, 2, parameters, use_dora=True)
        model = make_model(family, 4)
        with pytest.raises(RecipeError, match="SwitchLinear doesn't support DoRA"):
            adapters.attach(LoadedModel(model, {}, "", "", 0), recipe)


class TestOwnCode:
    def test_that_fails_is_one_sentence_with_layers_that_it_trains(self) -> None:
        """It reads weights of layers, which mlx_lm's LoRA layers don't have."""
        recipe = apply_settings(Recipe(), ["num_layers=2"])
        model = attached(make_model("gemma3n", None), recipe)
        with pytest.raises(AttributeError, match="no attribute 'weight'"):
            trainer.default_loss(model, mx.array(rows(0)), mx.array(SPANS))
        with pytest.raises(ModelError) as failure:
            verified(model, "my-model")
        message = str(failure.value)
        assert message.startswith("my-model: mlx-lm's code of this model fails in training (Attr")
        assert "set lora_parameters.keys to the attention's layers (self_attn." in message

    @pytest.mark.parametrize("family", ["deepseek_v41", "recurrent_gemma", "bitnet"])
    def test_that_fails_with_any_layers_is_one_sentence(self, family: str) -> None:
        with pytest.raises(ModelError, match=r"the model: .* of this .*model .*; choose another"):
            verified(attached(make_model(family), lora_recipe(family)), "the model")


class TestStuckAdapters:
    def test_are_named_by_kind(self) -> None:
        _, gradients = gradient("deepseek_v32", with_cache=False)
        (message,) = stuck_adapters(gradients)
        assert "self_attn.indexer.wq_b, self_attn.indexer.wk" in message

    def test_an_expert_that_no_token_was_sent_to_is_not_one(self) -> None:
        _, gradients = gradient("dbrx", with_cache=False)
        first = {each: mx.zeros_like(g) for each, g in gradients.items() if ".experts.0." in each}
        assert first
        assert stuck_adapters({**gradients, **first}) == []

"""The first update changes what the recipe names, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlxft.compute.arrays import named_arrays
from mlxft.compute.training.first_update import FirstUpdate
from mlxft.errors import RecipeError, RunError
from mlxft.runs import events as ev
from support.training import MakeRun

Arrays = dict[str, mx.array]


class Block(nn.Module):
    """A frozen layer and one with a LoRA adapter, as they are named in a model."""

    def __init__(self, dtype: mx.Dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.norm = {"weight": mx.ones(8, dtype)}
        self.q_proj = {"lora_a": mx.ones((8, 2)), "lora_b": mx.zeros((2, 8))}
        self.switch_mlp = {"up_proj": {"lora_b": mx.zeros((4, 8, 2))}}


class Model(nn.Module):
    """Two blocks whose norms and frozen weights a test may change."""

    def __init__(self, dtype: mx.Dtype = mx.float32) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers = [Block(dtype), Block(dtype)]
        self.embed_tokens = nn.Embedding(4, 8)


def trained_of(model: Model, *kinds: str) -> Arrays:
    arrays = named_arrays(model.parameters())
    return {name: each for name, each in arrays.items() if name.endswith(kinds)}


def update(
    model: Model, gradients: Arrays, changed: Callable[[str], bool], by: float = 0.5
) -> list[str]:
    """The notes on an update that changes the arrays with these names."""
    before = FirstUpdate.before(model, gradients)
    arrays = named_arrays(model.parameters())
    model.load_weights(
        [(name, each + by) for name, each in arrays.items() if changed(name)], strict=False
    )
    return before.notes(model)


class TestChanges:
    def test_a_waits_for_b_without_a_word(self) -> None:
        model = Model()
        gradients = trained_of(model, "q_proj.lora_a", "q_proj.lora_b")
        gradients = {
            name: mx.zeros_like(each) if "lora_a" in name else mx.ones_like(each)
            for name, each in gradients.items()
        }
        assert update(model, gradients, lambda name: name.endswith("q_proj.lora_b")) == []

    def test_weight_decay_may_move_it(self) -> None:
        model = Model()
        gradients = {
            name: mx.zeros_like(each) if "lora_a" in name else mx.ones_like(each)
            for name, each in trained_of(model, "q_proj.lora_a", "q_proj.lora_b").items()
        }
        assert update(model, gradients, lambda name: "q_proj" in name) == []

    def test_a_changed_frozen_tensor_stops_the_run(self) -> None:
        model = Model()
        gradients = trained_of(model, "q_proj.lora_a")
        with pytest.raises(
            RunError,
            match=r"changed embed_tokens\.weight, which .* beside q_proj\.lora_a \(2 times",
        ):
            update(model, gradients, lambda name: "lora_a" in name or "embed" in name)

    def test_a_kind_that_has_a_gradient_must_change(self) -> None:
        model = Model()
        gradients = {
            name: mx.ones_like(each)
            for name, each in trained_of(model, "q_proj.lora_b", "norm.weight").items()
        }
        with pytest.raises(RunError, match=r"changed q_proj\.lora_b \(2 times\), but not norm"):
            update(model, gradients, lambda name: "lora_b" in name and "q_proj" in name)

    def test_nothing_changed_is_refused(self) -> None:
        model = Model()
        gradients = {n: mx.ones_like(g) for n, g in trained_of(model, "q_proj.lora_b").items()}
        with pytest.raises(RunError, match=r"changed nothing: .* smaller than their type"):
            update(model, gradients, lambda _: False)
        with pytest.raises(RunError, match=r"changed nothing: .* has a gradient"):
            update(model, {n: mx.zeros_like(g) for n, g in gradients.items()}, lambda _: False)

    def test_experts_without_tokens_are_said(self) -> None:
        model = Model()
        gradients = {
            name: mx.ones_like(each) if "q_proj" in name else mx.zeros_like(each)
            for name, each in trained_of(model, "lora_b").items()
        }
        (note,) = update(model, gradients, lambda name: name.endswith("q_proj.lora_b"))
        assert note == (
            "The first update left switch_mlp.up_proj.lora_b (2 times) as they were because no "
            "token of the first batch was sent to them."
        )

    def test_an_update_that_bfloat16_cannot_hold_is_said(self) -> None:
        model = Model(mx.bfloat16)
        gradients = {
            name: mx.ones_like(each)
            for name, each in trained_of(model, "lora_b", "norm.weight").items()
        }
        (note,) = update(
            model, gradients, lambda name: name.endswith(("lora_b", "norm.weight")), by=1e-4
        )
        assert "norm.weight (2 times) as they were because it is smaller than their type" in note

    def test_changes_that_cancel_in_a_sum_are_seen(self) -> None:
        model = Model()
        before = FirstUpdate.before(model, trained_of(model, "norm.weight"))
        weight: Any = model.layers[0].norm["weight"]
        weight[0], weight[1] = 0.5, 1.5
        model.layers[0].norm["weight"] = weight
        assert "norm.weight" in before.notes(model)[0]


class TestRuns:
    @pytest.mark.parametrize(
        "settings",
        [
            ("optimizer=adamw",),
            ("fine_tune_type=dora", "optimizer=sgd"),
            ("fine_tune_type=full", "optimizer=adafactor"),
            ("optimizer=muon", "grad_accumulation_steps=2", "lr_schedule.warmup=2"),
            ("learning_rate=0",),
        ],
    )
    def test_usual_ones_pass_without_a_word(
        self, make_run: MakeRun, settings: tuple[str, ...]
    ) -> None:
        run = make_run(*settings)
        run.train()
        assert not [each for each in run.of(ev.Warned) if "first update" in each.message]

    def test_one_whose_updates_are_too_small_stops(self, make_run: MakeRun) -> None:
        run = make_run("fine_tune_type=full", "optimizer=sgd", "learning_rate=1e-12")
        with pytest.raises(
            RunError, match=r"The first update changed nothing: .* raise learning_rate"
        ):
            run.train()


class TestNothingTrained:
    """A run that would train 0.0% of the model is refused before its first step."""

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            (("lora_parameters.scale=0",), "scale is 0, so nothing of the adapter is trained"),
            (("lora_parameters.keys=input_layernorm",), "can't be put on this model"),
        ],
    )
    def test_the_reason_is_said(
        self, make_run: MakeRun, settings: tuple[str, ...], says: str
    ) -> None:
        run = make_run(*settings)
        with pytest.raises(RecipeError, match=says):
            run.train()
        assert not run.of(ev.StepFinished)

"""How a run computes is chosen by its recipe, by a measurement, or by what is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.nn.layers.quantized import quantize
from mlx_lm.utils import _get_classes

from mlxft.compute.models.loading import LoadedModel
from mlxft.compute.training import choices, measured_operations
from mlxft.compute.training.attention import Backend
from mlxft.compute.training.batches import batch_arrays
from mlxft.compute.training.loss import chunked_loss
from mlxft.compute.training.step import Stepper
from mlxft.recipe import Recipe, apply_settings
from mlxft.storage.paths import state_dir
from support.architectures import ARCHITECTURES

_KIND = ("affine", 4, 64)
CROSSOVERS = measured_operations.crossovers


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own state folder."""
    monkeypatch.setenv("MLXFT_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which products can't be measured."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(measured_operations, "crossovers", fails)


def _loaded(*, quantized: bool = True) -> LoadedModel:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    if quantized:
        quantize(model, 64, 4)
    config = {"hidden_size": 128, "num_attention_heads": 2}
    return LoadedModel(model, config, "4-bit", "bfloat16", 0)


def _recipe(*settings: str) -> Recipe:
    return apply_settings(Recipe(), list(settings))


class TestAttention:
    def test_metals_is_measured_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        def keeps(size: int) -> bool:
            asked.append(size)
            return True

        monkeypatch.setattr(measured_operations, "keeps_scores", keeps)
        for _ in range(2):
            found = choices.chosen(_recipe(), _loaded(), "metal")
        assert asked == [64]
        assert found.attention.way((64, 64), 500, "causal") == "blocks"
        assert "measured on this device" in found.reasons[0]

    def test_the_table_holds_where_nothing_can_be_measured(self) -> None:
        """A CPU has no fused kernels and refuses."""
        found = choices.chosen(_recipe(), _loaded(), "metal")
        assert found.attention.way((64, 64), 500, "causal") == "fused"
        assert "not measured" in found.reasons[0]

    @pytest.mark.parametrize("wanted", ["backend", "blocks"])
    def test_the_recipe_decides(self, wanted: Any) -> None:
        found = choices.chosen(_recipe(f"attention={wanted}"), _loaded(), "cuda")
        assert found.attention.way((64, 64), 2048, "causal") == wanted
        assert "recipe" in found.reasons[0]


def _of_family(model_type: str) -> LoadedModel:
    config = ARCHITECTURES[model_type]
    model_class, arguments = _get_classes(config)
    return LoadedModel(model_class(arguments.from_dict(config)), config, "", "float32", 0)


class TestCompiledSteps:
    @pytest.mark.parametrize(
        ("model_type", "on", "compiled"),
        [("qwen3_5", "cuda", False), ("qwen3_5", "metal", True), ("llama", "cuda", True)],
    )
    def test_recurrent_layers_are_not_compiled_for_cuda_by_themselves(
        self, model_type: str, on: Backend, compiled: bool
    ) -> None:
        found = choices.chosen(_recipe(), _of_family(model_type), on)
        assert found.compiled is compiled
        assert any("not compiled" in reason for reason in found.reasons) is not compiled

    def test_they_are_once_a_run_has_made_the_kernels(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = tmp_path / "kernels"
        kept.mkdir()
        monkeypatch.setenv("MLX_PTX_CACHE_DIR", str(kept))
        always, auto = _recipe("compile_steps=always"), _recipe()
        recurrent, others = _of_family("qwen3_5"), _of_family("qwen3_next")
        first = choices.chosen(always, recurrent, "cuda")
        assert first.compiled
        assert first.kernels is not None
        assert not choices.chosen(auto, recurrent, "cuda").compiled
        choices.remember_kernels(first.kernels)
        assert choices.chosen(auto, recurrent, "cuda").compiled
        assert not choices.chosen(auto, others, "cuda").compiled
        assert not choices.chosen(_recipe("packing=true"), recurrent, "cuda").compiled
        kept.rmdir()
        assert not choices.chosen(auto, recurrent, "cuda").compiled
        kept.mkdir()
        assert not choices.chosen(auto, recurrent, "cuda").compiled

    def test_a_run_remembers_its_kernels_after_its_first_step(self) -> None:
        loaded = _of_family("qwen3_5")
        ways = replace(choices.known("cpu"), kernels="kernels qwen3_5")
        optimizer = optim.SGD(1e-3)
        optimizer.init(loaded.model.trainable_parameters())
        stepper = Stepper(
            loaded.model, optimizer, seed=0, grad_checkpoint=False, loss=chunked_loss, choices=ways
        )
        ids = np.ones((1, 9), np.int32)
        stepper.add_gradient(1, batch_arrays(ids, ids > 0))
        assert json.loads((state_dir() / "operations.json").read_text()).popitem()[1] is True

    def test_the_recipe_can_forbid_it(self) -> None:
        found = choices.chosen(_recipe("compile_steps=never"), _of_family("llama"), "metal")
        assert not found.compiled


class TestProducts:
    def test_the_rule_holds_where_nothing_can_be_measured(self) -> None:
        found = choices.chosen(_recipe(), _loaded(), "cuda")
        assert found.products.of({}).forward == 256
        assert "unpacked from 256 tokens on" in found.reasons[1]

    def test_a_measurement_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        crossovers = {"forward": 1024, "backward": None, "experts": None}
        with monkeypatch.context() as patched:
            patched.setattr(measured_operations, "crossovers", lambda *_: crossovers)
            choices.chosen(_recipe(), _loaded(), "cuda")
        rule = choices.chosen(_recipe(), _loaded(), "cuda").products.of({"bits": 4})
        assert (rule.forward, rule.backward) == (1024, None)
        assert choices.chosen(_recipe(), _loaded(quantized=False), "cuda").reasons[1:] == ()

    def test_what_is_known_holds_for_fewer_tokens_than_were_timed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        least = measured_operations.TOKENS[0]
        crossovers = {"forward": least, "backward": least, "experts": least}
        monkeypatch.setattr(measured_operations, "crossovers", lambda *_: crossovers)
        rule = choices.chosen(_recipe(), _loaded(), "cuda").products.of({"bits": 4})
        assert (rule.forward, rule.backward, rule.experts) == (256, 64, least)

    @pytest.mark.parametrize(("wanted", "least"), [("packed", None), ("unpacked", 1)])
    def test_the_recipe_decides(self, wanted: str, least: int | None) -> None:
        rule = choices.chosen(_recipe(f"quantized_products={wanted}"), _loaded(), "cuda")
        assert rule.products.of({}).forward == least


def test_a_crossover_needs_every_longer_row_to_be_faster(
    monkeypatch: pytest.MonkeyPatch, unmeasured: None
) -> None:
    monkeypatch.setattr(measured_operations, "crossovers", CROSSOVERS)
    monkeypatch.setattr(measured_operations, "TOKENS", (4, 8))
    monkeypatch.setattr(measured_operations, "SIDES", (64, 64))
    monkeypatch.setattr(measured_operations, "EXPERTS", (2, 64, 64))
    seconds = iter([1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 1.0, 2.0, 2.0, 1.0, 2.0, 1.0])

    def timed(compute: Any, product: Any) -> float:
        compute(product)  # MLX's experts on a CPU are float32 only, so nothing is evaluated.
        return next(seconds)

    monkeypatch.setattr(measured_operations, "seconds_of", timed)
    found = measured_operations.crossovers(_KIND, experts=True)
    assert found == {"forward": 8, "backward": None, "experts": 4}

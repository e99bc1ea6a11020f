"""Rank-stabilized scales and LoRA+'s faster B, against their formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from mlxft import recipe as recipes
from mlxft.compute.models import adapters, loading
from mlxft.compute.training.optimizers import make_optimizer
from mlxft.errors import RecipeError
from mlxft.recipe import Optimizer, Recipe, apply_settings
from mlxft.recipe.mlx_lm_command import mlx_lm_command
from support.training import MakeRun, stop_after

TOKENS = mx.array([[5, 9, 70, 31, 8]])


def updated(
    *settings: str, updates: int = 3, rate: float = 1e-2
) -> dict[str, np.ndarray[Any, Any]]:
    """Matrices A and B and magnitudes after a few updates with the same gradients."""
    optimizer = make_optimizer(apply_settings(Recipe(), settings))
    random = np.random.default_rng(0)
    shapes = {"lora_a": (6, 2), "lora_b": (2, 4), "m": (4,)}
    start = {
        name: mx.array(random.normal(size=shape), mx.float32) for name, shape in shapes.items()
    }
    weights: Any = {"layers": [{}, {"q_proj": start}]}
    optimizer.init(weights)
    for _ in range(updates):
        gradient = {
            name: mx.array(random.normal(size=shape), mx.float32) for name, shape in shapes.items()
        }
        optimizer.learning_rate = rate
        weights = optimizer.apply_gradients({"layers": [{}, {"q_proj": gradient}]}, weights)
    mx.eval(weights)
    return {name: np.array(each) for name, each in weights["layers"][1]["q_proj"].items()}


class TestRankStabilized:
    SETTINGS = ("lora_parameters.rank=16", "lora_parameters.scale=8", "use_rslora=true")

    def test_mlx_lm_computes_what_was_trained(self, make_run: MakeRun, tiny_model: Path) -> None:
        run = make_run(*self.SETTINGS, "iters=2")
        run.train()
        config = json.loads((run.directory.path / "adapter_config.json").read_text())
        assert config["lora_parameters"]["scale"] == 8 / math.sqrt(16)
        theirs, _ = mlx_lm.load(str(tiny_model), adapter_path=str(run.directory.path))
        ours = loading.load(tiny_model)
        adapters.attach(ours, run.recipe)
        assert {each.scale for _, each in adapters.adapted(ours.model)} == {2.0}
        ours.model.load_weights(str(run.directory.adapter_file), strict=False)
        assert mx.array_equal(theirs(TOKENS), ours.model.eval()(TOKENS))

    def test_its_command_has_the_scale_that_mlx_lm_applies(self) -> None:
        command = mlx_lm_command(apply_settings(Recipe(), self.SETTINGS))
        assert "scale: 2.0" in command
        assert "use_rslora" not in command

    def test_an_adapter_starts_from_one_with_the_same_factor(self, make_run: MakeRun) -> None:
        first = make_run(*self.SETTINGS, "iters=1")
        first.train()
        start = f"resume_adapter_file={first.directory.path}"
        make_run("lora_parameters.rank=16", "lora_parameters.scale=2", "iters=1", start).train()
        other = make_run("lora_parameters.rank=16", "lora_parameters.scale=8", "iters=1", start)
        with pytest.raises(RecipeError, match=r"scale is 8, but .* trained at 2; set it to 2"):
            other.train()

    def test_a_recipe_keeps_its_own_scale(self, tmp_path: Path) -> None:
        recipe = apply_settings(Recipe(), self.SETTINGS)
        recipes.save(recipe, tmp_path / "recipe.yaml")
        assert recipes.load(tmp_path / "recipe.yaml") == recipe


class TestLoraPlus:
    @pytest.mark.parametrize("name", get_args(Optimizer))
    def test_b_is_updated_as_with_a_rate_of_ratio_times_as_much(self, name: str) -> None:
        config = "optimizer_config={adafactor: {relative_step: false}}"
        optimizer = (f"optimizer={name}", config)
        ratio, plain = updated(*optimizer, "loraplus_lr_ratio=16"), updated(*optimizer)
        faster = updated(*optimizer, rate=16e-2)
        assert np.array_equal(ratio["lora_a"], plain["lora_a"])
        assert np.array_equal(ratio["m"], plain["m"])
        assert np.array_equal(ratio["lora_b"], faster["lora_b"])
        assert not np.allclose(ratio["lora_b"], plain["lora_b"])

    def test_updates_are_those_of_adamw_in_two_groups(self) -> None:
        """As PEFT's create_loraplus_optimizer makes them, with the weight decay of each group."""
        found = updated("optimizer=adamw", "loraplus_lr_ratio=4", updates=1)
        random = np.random.default_rng(0)
        shapes = {"lora_a": (6, 2), "lora_b": (2, 4), "m": (4,)}
        start = {name: random.normal(size=shape) for name, shape in shapes.items()}
        gradient = {name: random.normal(size=shape) for name, shape in shapes.items()}
        for name, rate in (("lora_a", 1e-2), ("lora_b", 4e-2)):
            m, v = 0.1 * gradient[name], 0.001 * gradient[name] ** 2
            expected = start[name] * (1 - rate * 0.01) - rate * m / (np.sqrt(v) + 1e-8)
            assert found[name] == pytest.approx(expected, rel=1e-5, abs=1e-6)

    def test_a_resume_with_a_schedule_and_a_changed_rate_is_exact(self, make_run: MakeRun) -> None:
        settings = ("loraplus_lr_ratio=8", "lr_schedule.name=cosine_decay", "optimizer=adamw")

        def visit(session: Any) -> None:
            if session.step == 2 and session.learning_rate == 1e-3:
                session.set_learning_rate(5e-4)

        whole = make_run(*settings)
        whole.train(visit)
        parts = make_run(*settings)

        def visit_and_stop(session: Any) -> None:
            visit(session)
            stop_after(4)(session)

        parts.train(visit_and_stop)
        parts.train()
        assert parts.adapter() == whole.adapter()
        plain = make_run(*settings[1:])
        plain.train(visit)
        assert plain.adapter() != whole.adapter()

    @pytest.mark.parametrize(
        ("setting", "says"),
        [
            ("fine_tune_type=full", "trains no matrices B; set it to 1"),
            ("optimizer=adafactor", r"its own step size; set it to 1, or .*relative_step: false"),
        ],
    )
    def test_a_ratio_without_effect_is_refused(self, setting: str, says: str) -> None:
        with pytest.raises(RecipeError, match=says):
            make_optimizer(apply_settings(Recipe(), ["loraplus_lr_ratio=16", setting]))

"""mlx-lm's own configs are read as mlx-lm reads them, and schedules are mlx-lm's."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import pytest
import yaml
from mlx_lm.lora import CONFIG_DEFAULTS, build_parser, train_model, yaml_loader
from mlx_lm.tuner.datasets import create_dataset
from mlx_lm.tuner.utils import build_schedule
from mlx_lm.utils import load

from mlxft import recipe as recipes
from mlxft.compute.training.optimizers import make_optimizer, make_schedule
from mlxft.errors import RecipeError
from mlxft.recipe import PARAMETERS, Recipe
from mlxft.recipe.mlx_lm_command import mlx_lm_command

EXAMPLE: dict[str, Any] = {
    **CONFIG_DEFAULTS,
    **dict.fromkeys(vars(build_parser().parse_args([]))),
    "train": True,
    "test": False,
    "test_batches": 100,
    "learning_rate": 1e-5,
    "num_layers": 16,
    "lora_parameters": {
        "keys": ["self_attn.q_proj", "self_attn.v_proj"],
        "rank": 8,
        "scale": 20.0,
        "dropout": 0.0,
    },
    "lr_schedule": {
        "name": "cosine_decay",
        "warmup": 100,
        "warmup_init": 1e-7,
        "arguments": [1e-5, 1000, 1e-7],
    },
    "prompt_feature": "question",
    "completion_feature": "reply",
    "chat_feature": "dialogue",
    "text_feature": "body",
    "hf_dataset": {
        "path": "owner/name",
        "config": {"name": "part"},
        "prompt_feature": "question",
    },
}
"""Every key of mlx-lm's defaults, flags and documented configs."""


def from_yaml(text: str, folder: Path) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return recipes.load(path)


def saved_config(model_folder: Path, folder: Path) -> Path:
    """The adapter_config.json of a training run of one step."""
    settings = {**CONFIG_DEFAULTS, "iters": 1, "batch_size": 1, "num_layers": 1, "val_batches": 0}
    settings |= {"model": str(model_folder), "adapter_path": str(folder), "train": True}
    args = types.SimpleNamespace(**settings)
    model, tokenizer, *_ = load(str(model_folder))
    rows = create_dataset([{"text": "Turn on the lamp."}] * 2, tokenizer, args)
    train_model(args, model, rows, rows)
    return folder / "adapter_config.json"


class TestKeys:
    def test_every_key_is_taken(self, tmp_path: Path) -> None:
        recipe = from_yaml(yaml.safe_dump(EXAMPLE), tmp_path)
        for key, value in EXAMPLE.items():
            if key in PARAMETERS and key not in ("data", "columns") and value is not None:
                assert recipes.get(recipe, key) == value, key
        assert recipe.data == "owner/name:part@train[:80%],train[-10%:]"
        assert recipe.columns == {
            "prompt": "question",
            "completion": "reply",
            "messages": "dialogue",
            "text": "body",
        }
        assert recipe.lr_schedule is not None
        assert recipe.lr_schedule.arguments == (1e-5, 1000, 1e-7)

    def test_a_config_that_mlx_lm_saved_is_a_recipe(self, tiny_model: Path, tmp_path: Path) -> None:
        file = saved_config(tiny_model, tmp_path)
        recipe = recipes.load(file)
        saved = json.loads(file.read_text())
        assert (recipe.model, recipe.iters, recipe.num_layers) == (str(tiny_model), 1, 1)
        assert recipe.learning_rate == saved["learning_rate"]


class TestNumbers:
    @pytest.mark.parametrize("text", ["1e-2", "9E-1", "+1.5e3", ".5e-3", "2.e+1", "1_0e1"])
    def test_a_number_in_a_mapping_is_a_number_as_in_mlx_lm(
        self, text: str, tmp_path: Path
    ) -> None:
        recipe = from_yaml(f"optimizer_config: {{adamw: {{weight_decay: {text}}}}}", tmp_path)
        assert recipe.optimizer_config["adamw"]["weight_decay"] == float(text)

    def test_text_that_resembles_a_number_stays_text(self, tmp_path: Path) -> None:
        recipe = recipes.replace(Recipe(), "project_name", "1e5")
        assert from_yaml(recipes.dump(recipe), tmp_path).project_name == "1e5"

    @pytest.mark.parametrize(
        "config", ["{weight_decay: much}", "{betas: [0.9]}", "{eps: [1, 2]}", "{eps: tiny}"]
    )
    def test_an_argument_of_another_type_is_refused_before_training(self, config: str) -> None:
        settings = ["optimizer=adamw", f"optimizer_config={{adamw: {config}}}"]
        with pytest.raises(RecipeError, match=r"optimizer_config\.adamw .* refuses it"):
            make_optimizer(recipes.apply_settings(Recipe(), settings))

    def test_the_mlx_lm_command_keeps_every_digit(self) -> None:
        settings = ["learning_rate=0.000123456789", "trust_remote_code=true"]
        command = mlx_lm_command(recipes.apply_settings(Recipe(), settings))
        assert "--learning-rate 0.000123456789" in command
        assert "--trust-remote-code" in command


SCHEDULES = {
    "cosine_decay": ([1e-3, 7], [1e-3, 7, 1e-4]),
    "linear_schedule": ([1e-3, 1e-5, 7],),
    "exponential_decay": ([1e-3, 0.7],),
    "step_decay": ([1e-3, 0.5, 3],),
}


def mlx_lm_rates(settings: Mapping[str, Any], updates: int) -> list[float]:
    """The learning rate of each update of an optimizer as mlx-lm makes it."""
    optimizer = optim.SGD(learning_rate=build_schedule(dict(settings)))
    weights, rates = {"weight": mx.zeros(1)}, []
    for _ in range(updates):
        optimizer.apply_gradients(weights, weights)
        rates.append(float(optimizer.learning_rate))
    return rates


class TestSchedules:
    @pytest.mark.parametrize("warmup", [0, 3])
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [(name, each) for name, listed in SCHEDULES.items() for each in listed],
    )
    def test_every_update_has_the_rate_of_mlx_lm(
        self, name: str, arguments: list[float], warmup: int, tmp_path: Path
    ) -> None:
        settings = {"name": name, "arguments": arguments, "warmup": warmup, "warmup_init": 1e-6}
        recipe = from_yaml(yaml.safe_dump({"lr_schedule": settings, "iters": 12}), tmp_path)
        expected = mlx_lm_rates(settings, 12)
        # Loaded, then saved and loaded by us and by mlx-lm.
        again = from_yaml(recipes.dump(recipe), tmp_path)
        for each in (recipe, again):
            rate = make_schedule(each)
            assert [rate(update) for update in range(12)] == expected
        saved = yaml.load(recipes.dump(recipe), yaml_loader)["lr_schedule"]
        assert mlx_lm_rates(saved, 12) == expected

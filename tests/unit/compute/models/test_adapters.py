"""Adapters that were saved elsewhere, and layers that an adapter can't be put on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlxft.compute.models import adapters, loading
from mlxft.errors import RecipeError
from mlxft.recipe import Recipe, apply_settings
from support.training import MakeRun


def changed_config(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change keys of an adapter_config.json; None removes one."""
    file = folder / "adapter_config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


class TestStartingFrom:
    def test_an_adapter_of_another_scale_is_refused(self, make_run: MakeRun) -> None:
        first = make_run("iters=1", "scale=10")
        first.train()
        (checkpoint,) = first.directory.checkpoints.iterdir()
        for path in (first.directory.adapter_file, checkpoint / "adapters.safetensors", checkpoint):
            second = make_run("scale=20", f"resume_adapter_file={path}")
            with pytest.raises(RecipeError, match=r"scale is 20, .* trained at 10; set it to 10"):
                second.train()

    def test_a_folder_stands_for_its_adapter(self, make_run: MakeRun) -> None:
        first = make_run("iters=2")
        first.train()
        second = make_run(
            "learning_rate=0", "iters=1", f"resume_adapter_file={first.directory.path}"
        )
        second.train()
        assert second.adapter() == first.adapter()


class TestSavedElsewhere:
    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("lora", {"num_layers": None, "lora_layers": 2}),
            ("dora", {"fine_tune_type": None, "use_dora": True}),
            ("lora", {"lora_parameters": {"rank": 8, "alpha": 160.0}}),
        ],
    )
    def test_an_older_layout_is_the_same_adapter(
        self, make_run: MakeRun, tiny_model: Path, kind: str, changes: dict[str, Any]
    ) -> None:
        run = make_run("iters=1", f"fine_tune_type={kind}")
        run.train()
        before, after = loading.load(tiny_model), loading.load(tiny_model)
        adapters.load_saved(before, run.directory.path)
        changed_config(run.directory.path, changes)
        adapters.load_saved(after, run.directory.path)
        tokens = mx.array([[3, 9, 4, 7]])
        assert mx.array_equal(after.model(tokens), before.model(tokens))
        start = f"resume_adapter_file={run.directory.path}"
        make_run("iters=1", f"fine_tune_type={kind}", start).train()

    def test_a_missing_dropout_is_none(self, make_run: MakeRun, tiny_model: Path) -> None:
        run = make_run("iters=1")
        run.train()
        changed_config(run.directory.path, {"lora_parameters": {"rank": 8, "scale": 20.0}})
        assert adapters.load_saved(loading.load(tiny_model), run.directory.path)


class TestDoRA:
    @pytest.mark.parametrize(
        ("bits", "keys", "says"),
        [
            (3, "self_attn.q_proj", "the 3-bit layer"),
            (6, "mlp.up_proj", "the 6-bit layer"),
            (4, "model.embed_tokens", "the quantized embedding model.embed_tokens"),
        ],
    )
    def test_quantized_layers_that_fail_in_training_are_refused_before(
        self, tiny_model: Path, bits: int, keys: str, says: str
    ) -> None:
        loaded = loading.load(tiny_model)
        nn.quantize(loaded.model, group_size=32, bits=bits)
        settings = ["fine_tune_type=dora", "num_layers=-1", f"lora_parameters.keys={keys}"]
        with pytest.raises(RecipeError, match=says):
            adapters.attach(loaded, apply_settings(Recipe(), settings))

    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_other_bits_are_trained(self, tiny_model: Path, bits: int) -> None:
        loaded = loading.load(tiny_model)
        nn.quantize(loaded.model, group_size=32, bits=bits)
        settings = ["fine_tune_type=dora", "num_layers=-1"]
        adapters.attach(loaded, apply_settings(Recipe(), settings))
        assert mx.all(mx.isfinite(loaded.model(mx.array([[1, 2, 3]]))))

"""What a run trains, by which optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import mlx.core as mx
import mlx_lm
import pytest
from mlx.utils import tree_flatten

from mlxft.errors import ModelError, RecipeError
from mlxft.recipe import Optimizer, apply_settings
from mlxft.runs import events as ev
from support.training import MakeRun, Run


def adapter_of(run: Run) -> dict[str, mx.array]:
    loaded = mx.load(str(run.directory.adapter_file))
    assert isinstance(loaded, dict)
    return loaded


class TestFineTuneTypes:
    @pytest.mark.parametrize("kind", ["lora", "dora", "full"])
    def test_mlx_lm_loads_what_is_saved(
        self, make_run: MakeRun, tiny_model: Path, kind: str
    ) -> None:
        run = make_run(f"fine_tune_type={kind}", "iters=3")
        run.train()
        model, _ = mlx_lm.load(str(tiny_model), adapter_path=str(run.directory.path))
        loaded = dict(tree_flatten(model.parameters()))
        saved = adapter_of(run)
        assert saved
        assert all(mx.array_equal(loaded[name], each) for name, each in saved.items())

    def test_full_trains_the_last_layers_only(self, make_run: MakeRun) -> None:
        run = make_run("fine_tune_type=full", "num_layers=1", "iters=1")
        run.train()
        assert all(name.startswith("model.layers.2.") for name in adapter_of(run))

    def test_minus_one_is_every_layer(self, make_run: MakeRun) -> None:
        run = make_run("num_layers=-1", "iters=1")
        run.train()
        layers = {name.split(".")[2] for name in adapter_of(run)}
        assert layers == {"0", "1", "2"}

    def test_keys_choose_the_linear_layers(self, make_run: MakeRun) -> None:
        run = make_run("lora_parameters.keys=self_attn.q_proj", "iters=1", "num_layers=1")
        run.train()
        prefix = "model.layers.2.self_attn.q_proj"
        assert sorted(adapter_of(run)) == [f"{prefix}.lora_a", f"{prefix}.lora_b"]

    def test_an_unknown_key_is_refused_with_the_known_ones(self, make_run: MakeRun) -> None:
        run = make_run("lora_parameters.keys=self_attn.query")
        with pytest.raises(RecipeError, match=r"self_attn\.query, .* it has .*self_attn\.q_proj"):
            run.train()

    def test_more_layers_than_the_model_has_are_refused(self, make_run: MakeRun) -> None:
        with pytest.raises(RecipeError, match="num_layers is 4, but the model has 3"):
            make_run("num_layers=4").train()

    def test_training_starts_from_given_weights(self, make_run: MakeRun) -> None:
        first = make_run("iters=3")
        first.train()
        file = first.directory.adapter_file
        second = make_run("learning_rate=0", "iters=1", f"resume_adapter_file={file}")
        second.train()
        assert second.adapter() == first.adapter()

    def test_weights_of_another_shape_are_refused(self, make_run: MakeRun) -> None:
        first = make_run("iters=1")
        first.train()
        file = first.directory.adapter_file
        second = make_run("rank=4", f"resume_adapter_file={file}")
        with pytest.raises(ModelError, match=r"adapters\.safetensors: these weights don't fit"):
            second.train()


class TestOptimizers:
    @pytest.mark.parametrize("name", get_args(Optimizer))
    def test_each_changes_the_weights(self, make_run: MakeRun, name: str) -> None:
        run = make_run(f"optimizer={name}", "iters=3", "learning_rate=1e-2")
        run.train()
        assert len(set(run.losses)) == 3
        assert all(mx.all(mx.isfinite(each)).item() for each in adapter_of(run).values())

    def test_its_arguments_are_passed_on(self, make_run: MakeRun) -> None:
        plain, decayed = make_run("optimizer=adamw"), make_run("optimizer=adamw")
        decayed.recipe = apply_settings(
            decayed.recipe, ["optimizer_config={adamw: {weight_decay: 10.0}}"]
        )
        plain.train()
        decayed.train()
        assert plain.adapter() != decayed.adapter()

    def test_an_unknown_argument_is_refused(self, make_run: MakeRun) -> None:
        run = make_run("optimizer_config={adam: {beta: 1}}")
        with pytest.raises(RecipeError, match=r"optimizer_config\.adam .* 'beta'"):
            run.train()

    def test_adafactor_warns_that_it_ignores_the_rate(self, make_run: MakeRun) -> None:
        run = make_run("optimizer=adafactor", "iters=1")
        run.train()
        assert "ignores learning_rate" in run.of(ev.Warned)[0].message

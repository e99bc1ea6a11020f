"""Adapters of PEFT act as they do in PEFT: as if merged into the model's weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import mixtral
from safetensors.numpy import load_file, save_file

from mlxft.compute.models import adapters, loading
from mlxft.errors import ModelError, RecipeError
from support.models import make_tiny_model
from support.peft_files import ATTENTION, PREFIX, logits, make_peft_adapter, merged
from support.training import MakeRun

ALL_KEYS = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)


def loaded_logits(model: Path, adapter: Path) -> np.ndarray:
    loaded = loading.load(model)
    adapters.load_saved(loaded, adapter)
    return logits(loaded.model)


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, 2.0),
        ({"keys": ALL_KEYS, "lora_alpha": 3}, 0.75),
        ({"use_rslora": True}, 4.0),
        ({"dora": True, "keys": ALL_KEYS}, 2.0),
        ({"alpha_pattern": {"v_proj": 2}}, {"self_attn.q_proj": 2.0, "self_attn.v_proj": 0.5}),
        ({"alpha_pattern": {r"layers\.[01]\.self_attn\.v_proj": 2}, "blocks": (1,)},
         {"self_attn.q_proj": 2.0, "self_attn.v_proj": 0.5}),
    ],
    ids=["LoRA", "every layer", "rank-stabilized", "DoRA", "own alpha", "own alpha by path"],
)  # fmt: skip
def test_an_adapter_acts_as_if_merged(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any], scales: float | dict[str, float]
) -> None:
    adapter = make_peft_adapter(tmp_path / "peft", tiny_model, **settings)
    by_key = scales if isinstance(scales, dict) else dict.fromkeys(ALL_KEYS, scales)
    expected = logits(loading.load(merged(tiny_model, adapter, by_key, tmp_path / "all")).model)
    found = loaded_logits(tiny_model, adapter)
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(found - logits(loading.load(tiny_model).model)).max() > 0.1


def test_names_of_other_versions_are_known(tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_peft_adapter(tmp_path / "peft", tiny_model, dora=True)
    expected = loaded_logits(tiny_model, adapter)
    file = adapter / "adapter_model.safetensors"
    older = {
        name.replace(".weight", ".default.weight")
        .replace("magnitude_vector", "magnitude_vector.default.weight")
        .replace("model.model.", "model.model.language_model."): array
        for name, array in load_file(file).items()
    }
    save_file(older, file)
    assert np.array_equal(loaded_logits(tiny_model, adapter), expected)


class TestExperts:
    """PEFT has a layer for each expert, mlx-lm one for all of a block."""

    ARGUMENTS: ClassVar = {
        "model_type": "mixtral",
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    }

    def adapter(self, folder: Path, experts: int) -> Path:
        random = np.random.default_rng(0)
        arrays = {}
        for expert in range(experts):
            for name, inputs, outputs in (("w1", 32, 48), ("w2", 48, 32)):
                layer = f"{PREFIX}model.layers.0.block_sparse_moe.experts.{expert}.{name}"
                a, b = random.normal(0, 0.3, (4, inputs)), random.normal(0, 0.3, (outputs, 4))
                arrays[f"{layer}.lora_A.weight"] = a.astype("f4")
                arrays[f"{layer}.lora_B.weight"] = b.astype("f4")
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        save_file(arrays, folder / "adapter_model.safetensors")
        return folder

    def loaded(self) -> loading.LoadedModel:
        mx.random.seed(0)
        model = mixtral.Model(mixtral.ModelArgs.from_dict(self.ARGUMENTS))
        return loading.LoadedModel(model, dict(self.ARGUMENTS), "none", "float32", 0)

    def test_they_act_as_if_merged(self, tmp_path: Path) -> None:
        adapter, plain, adapted = self.adapter(tmp_path, 4), self.loaded(), self.loaded()
        adapters.load_saved(adapted, adapter)
        arrays = load_file(adapter / "adapter_model.safetensors")
        switch = plain.model.layers[0].block_sparse_moe.switch_mlp
        for name, matrix in (("w1", switch.gate_proj), ("w2", switch.down_proj)):
            layers = [
                f"{PREFIX}model.layers.0.block_sparse_moe.experts.{expert}.{name}"
                for expert in range(4)
            ]
            change = np.stack(
                [
                    arrays[f"{each}.lora_B.weight"] @ arrays[f"{each}.lora_A.weight"]
                    for each in layers
                ]
            )
            matrix.weight = matrix.weight + 1.5 * mx.array(change)
        found, expected = logits(adapted.model), logits(plain.model)
        assert np.abs(found - expected).max() < 1e-4
        assert np.abs(found - logits(self.loaded().model)).max() > 0.01

    def test_some_alone_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="adapts all 4 experts of a layer alike"):
            adapters.load_saved(self.loaded(), self.adapter(tmp_path, 3))


class TestRefusals:
    @pytest.mark.parametrize(
        ("config", "says"),
        [
            ({"peft_type": "IA3"}, "has peft_type IA3"),
            ({"modules_to_save": ["score"]}, r"has modules_to_save \(score\)"),
            ({"bias": "lora_only"}, "trained biases"),
            ({"init_lora_weights": "pissa"}, "init_lora_weights pissa, which also changes"),
            ({"layer_replication": [[0, 1], [0, 1]]}, "has layer_replication"),
            ({"r": None}, "r and lora_alpha must be numbers"),
            ({"r": 0}, "r and lora_alpha must be numbers"),
            ({"lora_alpha": math.nan}, "r and lora_alpha must be numbers"),
            ({"rank_pattern": {"(": 4}}, "r and lora_alpha must be numbers"),
            ({"modules_to_save": 7}, r"has modules_to_save \(7\)"),
            ({"rank_pattern": {"q_proj": 16}}, "q_proj the rank 16, its weights have 4"),
        ],
    )
    def test_what_mlx_lm_has_no_layer_for_is_named(
        self, tiny_model: Path, tmp_path: Path, config: dict[str, Any], says: str
    ) -> None:
        adapter = make_peft_adapter(tmp_path, tiny_model, **config)
        with pytest.raises(ModelError, match=says):
            loaded_logits(tiny_model, adapter)

    def test_a_tensor_without_a_place_is_named(self, tiny_model: Path, tmp_path: Path) -> None:
        adapter = make_peft_adapter(tmp_path, tiny_model)
        file = adapter / "adapter_model.safetensors"
        save_file({**load_file(file), f"{PREFIX}lm_head.weight": np.zeros((4, 4), "f4")}, file)
        with pytest.raises(ModelError, match=r"lm_head\.weight has no counterpart"):
            loaded_logits(tiny_model, adapter)

    def test_an_adapter_of_another_model_is_named(self, tiny_model: Path, tmp_path: Path) -> None:
        other = make_tiny_model(tmp_path / "other", hidden_size=48)
        adapter = make_peft_adapter(tmp_path / "peft", other)
        with pytest.raises(ModelError, match=r"another model: its layers\.0\.self_attn\.q_proj"):
            loaded_logits(tiny_model, adapter)

    def test_magnitudes_that_are_missing(self, tiny_model: Path, tmp_path: Path) -> None:
        adapter = make_peft_adapter(tmp_path, tiny_model, use_dora=True)
        with pytest.raises(ModelError, match="has no magnitudes, which DoRA needs"):
            loaded_logits(tiny_model, adapter)

    def test_a_tied_embedding(self, tmp_path: Path) -> None:
        model = make_tiny_model(tmp_path / "tied")
        adapter = make_peft_adapter(tmp_path / "peft", model)
        file = adapter / "adapter_model.safetensors"
        size, width = load_file(model / "model.safetensors")["model.embed_tokens.weight"].shape
        layer = f"{PREFIX}model.embed_tokens.lora_embedding"
        embedding = {
            f"{layer}_A": np.ones((4, size), "f4"),
            f"{layer}_B": np.ones((width, 4), "f4"),
        }
        save_file({**load_file(file), **embedding}, file)
        with pytest.raises(ModelError, match="embed_tokens for the input only"):
            loaded_logits(model, adapter)


class TestStartingFrom:
    def test_training_starts_where_peft_stopped(
        self, make_run: MakeRun, tiny_model: Path, tmp_path: Path
    ) -> None:
        adapter = make_peft_adapter(tmp_path / "peft", tiny_model, blocks=(0, 1, 2))
        run = make_run(*_fitting(adapter), "scale=2")
        run.train()
        assert np.array_equal(
            loaded_logits(tiny_model, run.directory.path), loaded_logits(tiny_model, adapter)
        )

    @pytest.mark.parametrize(
        ("change", "error", "says"),
        [
            ("scale=3", RecipeError, "scale is 3, .* trained at 2; set it to 2"),
            ("num_layers=1", ModelError, "num_layers 3 and lora_parameters.keys self_attn.q_proj"),
        ],
    )
    def test_a_recipe_that_does_not_fit_learns_what_would(
        self,
        make_run: MakeRun,
        tiny_model: Path,
        tmp_path: Path,
        change: str,
        error: type[Exception],
        says: str,
    ) -> None:
        adapter = make_peft_adapter(tmp_path / "peft", tiny_model, blocks=(0, 1, 2))
        with pytest.raises(error, match=says):
            make_run(*_fitting(adapter), "scale=2", change).train()

    def test_a_file_without_its_config_says_so(
        self, make_run: MakeRun, tiny_model: Path, tmp_path: Path
    ) -> None:
        adapter = make_peft_adapter(tmp_path / "peft", tiny_model)
        (adapter / "adapter_config.json").unlink()
        file = adapter / "adapter_model.safetensors"
        with pytest.raises(ModelError, match=r"needs its adapter_config\.json"):
            make_run(f"resume_adapter_file={file}").train()


def _fitting(adapter: Path) -> tuple[str, ...]:
    config = json.loads((adapter / "adapter_config.json").read_text())
    return (
        f"resume_adapter_file={adapter}",
        f"rank={config['r']}",
        f"lora_parameters.keys={','.join(ATTENTION)}",
        "num_layers=-1",
        "learning_rate=0",
        "iters=1",
    )

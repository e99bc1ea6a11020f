"""What an export writes as GGUF, imported again as a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxft.compute.arrays import named_arrays
from mlxft.compute.exporting import gguf_model
from mlxft.compute.models import gguf, loading
from mlxft.compute.tokenization import load_tokenizer
from mlxft.memory.local_config import local_config, model_folder
from mlxft.runs.events import ProgressMade
from support.exported_families import random_model, sized
from support.gguf_files import write_gguf
from support.models import make_tiny_model
from support.sentencepiece_models import TEXTS, write_sentencepiece


def imported(model: Path, config: dict[str, Any], folder: Path, kind: str = "f32") -> Path:
    """A random model of a config with a model folder's tokenizer, written and imported."""
    file, tokenizer = folder / "model.gguf", load_tokenizer(model, False)
    arrays = random_model(config)
    gguf_model.write_model(arrays, config, model, tokenizer, file, kind, lambda *_: None)
    gguf.import_model(file, folder / "imported", lambda _: None)
    return folder / "imported"


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_tokenizer_gives_the_same_tokens(tmp_path: Path, prefix: bool) -> None:
    model = write_sentencepiece(make_tiny_model(tmp_path / "model"), prefix=prefix)
    again = imported(model, {**sized("llama"), "vocab_size": 400}, tmp_path)
    ours, theirs = (load_tokenizer(each, False) for each in (model, again))
    for text in (*TEXTS, "unseen: \u0be9 \U0001f642", "  a\n\n   b", "<s>a</s>"):
        for special in (True, False):
            wanted = ours.encode(text, add_special_tokens=special)
            assert theirs.encode(text, add_special_tokens=special) == wanted
        tokens = ours.encode(text, add_special_tokens=False)
        assert theirs.decode(tokens) == ours.decode(tokens)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ],
)
def test_scaled_positions_are_scaled_alike(
    tiny_model: Path, tmp_path: Path, scaling: dict[str, Any]
) -> None:
    config = {**sized("llama"), "rope_scaling": scaling, "rope_theta": 500000.0, "head_dim": 64}
    again = imported(tiny_model, config, tmp_path)
    assert json.loads((again / "config.json").read_text())["rope_scaling"] == scaling


@pytest.mark.parametrize(("kind", "bits", "dtype"), [("q4_0", {4, 8}, 2), ("bf16", set(), 2)])
def test_what_a_file_has_in_few_bits_is_kept_so(
    tiny_model: Path, tmp_path: Path, kind: str, bits: set[int], dtype: int
) -> None:
    again = imported(tiny_model, sized("llama"), tmp_path, kind)
    model = loading.load_model(again, lazy=True)[0]
    modules = [module for _, module in model.named_modules() if "scales" in module]
    assert {module.bits for module in modules} == bits
    assert model.model.norm.weight.dtype.size == dtype


def test_a_cpu_unpacks_8_bits_to_exactly_the_files_weights(
    tiny_model: Path, tmp_path: Path
) -> None:
    config = sized("llama")
    again = loading.load(imported(tiny_model, config, tmp_path, "q8_0"))
    wanted = gguf_model.read_back(tmp_path / "model.gguf", config)
    found = named_arrays(again.model.parameters())
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"):
        assert mx.allclose(found[name], wanted[name], 1e-6, 1e-8)


def test_a_recipe_can_name_a_file_which_is_imported_once(tiny_model: Path, tmp_path: Path) -> None:
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    seen: list[ProgressMade] = []
    folder = loading.locate(str(file), seen.append)
    assert seen[-1].done == seen[-1].total
    count = len(seen)
    assert loading.locate(str(file), seen.append) == folder
    assert len(seen) == count
    assert model_folder("tiny.gguf", tmp_path) == folder
    assert local_config(str(file))["model_type"] == "llama"

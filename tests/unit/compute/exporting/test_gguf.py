"""Models and adapters as GGUF files, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest

from mlxft.compute.arrays import named_arrays
from mlxft.compute.exporting import gguf_model
from mlxft.compute.models import gguf_families, loading
from mlxft.compute.tokenization import load_tokenizer
from mlxft.errors import ModelError
from mlxft.export.types import GGUF_FAMILIES
from support.exported_families import random_model, sized
from support.models import make_tiny_model

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


LLAMA = sized("llama")


def written(tiny_model: Path, file: Path, config: dict[str, Any], kind: str = "f32") -> Any:
    """A random model of a config, written with the tiny model's tokenizer."""
    model, tokenizer = random_model(config), load_tokenizer(tiny_model, False)
    gguf_model.write_model(model, config, tiny_model, tokenizer, file, kind, lambda *_: None)
    return model


class TestTensors:
    @pytest.mark.parametrize(
        ("kind", "error"), [("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 1e-2), ("q4_0", 0.2)]
    )
    def test_of_a_coarser_type_are_as_near_as_it_allows(
        self, tiny_model: Path, tmp_path: Path, kind: str, error: float
    ) -> None:
        file, config = tmp_path / "model.gguf", LLAMA
        own = named_arrays(written(tiny_model, file, config, kind).parameters())
        for name, array in gguf_model.read_back(file, config).items():
            assert mx.abs(array - own[name]).max() <= error * mx.abs(own[name]).max()

    def test_queries_alternate_a_heads_halves_as_llama_cpp_rotates_them(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        file, config = tmp_path / "model.gguf", LLAMA
        own = written(tiny_model, file, config).model.layers[0].self_attn.q_proj.weight
        (found,) = (
            each.data
            for each in gguf.GGUFReader(file).tensors
            if each.name == "blk.0.attn_q.weight"
        )
        size = own.shape[0] // config["num_attention_heads"]
        assert np.array_equal(found[1], np.array(own[size // 2]))
        assert np.array_equal(found[2], np.array(own[1]))

    def test_families_are_those_that_the_app_offers(self) -> None:
        assert tuple(gguf_families.FAMILIES) == GGUF_FAMILIES

    def test_a_family_that_is_not_known_is_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="export with --to"):
            written(tiny_model, tmp_path / "model.gguf", sized("cohere2"))

    @pytest.mark.parametrize(
        ("family", "particular", "reason"),
        [
            ("mistral", {"layer_types": ["sliding_attention"] * 2}, "sliding windows"),
            ("smollm3", {"no_rope_layer_interval": 2}, "no_rope_layer_interval"),
            ("olmo2", {"head_dim": 32}, "heads of 32 values"),
            ("qwen3_moe", {"norm_topk_prob": False}, "shares don't add up"),
            ("qwen3_moe", {"mlp_only_layers": [0]}, "layers without experts"),
            ("gemma2", {"query_pre_attn_scalar": 24.0}, "query_pre_attn_scalar of 24"),
            ("gemma3_text", {"sliding_window_pattern": 2}, "sliding_window_pattern of 2"),
            ("gemma3_text", {"rope_local_base_freq": 500.0}, "rope_local_base_freq of 500"),
        ],
    )
    def test_what_llama_cpp_would_compute_otherwise_is_refused(
        self, family: str, particular: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(ModelError, match=reason):
            gguf_families.family_of({**sized(family), **particular})


class TestMetadata:
    def test_llama_3s_scaling_divides_low_frequencies(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        config = {**LLAMA, "rope_scaling": LLAMA3_SCALING, "rope_theta": 1e4}
        file = tmp_path / "model.gguf"
        written(tiny_model, file, config)
        (factors,) = (
            each.data for each in gguf.GGUFReader(file).tensors if each.name == "rope_freqs.weight"
        )
        assert factors[0] == 1.0
        assert factors[-1] == 8.0
        assert all(np.diff(factors) >= 0)

    def test_tokens_merges_and_template_are_the_tokenizers(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "model.gguf"
        written(tiny_model, file, LLAMA)
        reader, tokenizer = gguf.GGUFReader(file), load_tokenizer(tiny_model, False)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        for text, index in tokenizer.get_vocab().items():
            assert fields["tokenizer.ggml.tokens"][index] == text
        ends = tokenizer.eos_token_id
        assert fields["tokenizer.ggml.eos_token_id"] == ends
        assert fields["tokenizer.ggml.token_type"][ends] == gguf.TokenType.CONTROL
        assert fields["tokenizer.ggml.pre"] == "gpt-2"
        assert fields["tokenizer.chat_template"] == tokenizer.chat_template
        assert fields["llama.rope.freq_base"] == pytest.approx(LLAMA.get("rope_theta", 1e4))

    def test_text_split_in_an_unknown_way_is_refused(self, tmp_path: Path) -> None:
        model = make_tiny_model(tmp_path / "model")
        file = model / "tokenizer.json"
        file.write_text(file.read_text().replace('"use_regex": true', '"use_regex": false'))
        loaded, tokenizer = loading.load(model), load_tokenizer(model, False)
        with pytest.raises(ModelError, match="splits text"):
            gguf_model.write_model(
                loaded.model,
                loaded.config,
                model,
                tokenizer,
                tmp_path / "model.gguf",
                "f16",
                lambda *_: None,
            )

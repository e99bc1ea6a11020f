"""The weights of well-known models, from what their publishers' config.json says.

Parameters are the exact counts that the models' files hold, two bytes each at bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mlxft.memory.shapes import ModelShapes


@dataclass(frozen=True)
class Published:
    """A model's numbers and its exact count of parameters; `small` are norms and biases."""

    model_type: str
    parameters: int
    numbers: tuple[int, int, int, int, int, int]
    """hidden, inner, layers, heads, heads of keys and values, vocabulary"""
    extra: dict[str, Any]

    def config(self, bits: int | None) -> dict[str, Any]:
        names = (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "vocab_size",
        )
        config: dict[str, Any] = dict(zip(names, self.numbers, strict=True))
        config |= {"model_type": self.model_type, "torch_dtype": "bfloat16", **self.extra}
        if bits:
            config["quantization"] = {"bits": bits, "group_size": 64}
        return config


TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
MODELS = {
    "Llama-3.2-1B": Published(
        "llama", 1_235_814_400, (2048, 8192, 16, 32, 8, 128256), {**TIED, "head_dim": 64}
    ),
    "Llama-3.2-3B": Published(
        "llama", 3_212_749_824, (3072, 8192, 28, 24, 8, 128256), {**TIED, "head_dim": 128}
    ),
    "Llama-3.1-8B": Published("llama", 8_030_261_248, (4096, 14336, 32, 32, 8, 128256), UNTIED),
    "Qwen2.5-7B": Published("qwen2", 7_615_616_512, (3584, 18944, 28, 28, 4, 152064), UNTIED),
    "Qwen3-4B": Published(
        "qwen3", 4_022_468_096, (2560, 9728, 36, 32, 8, 151936), {**TIED, "head_dim": 128}
    ),
    "Qwen3-8B": Published(
        "qwen3", 8_190_735_360, (4096, 12288, 36, 32, 8, 151936), {**UNTIED, "head_dim": 128}
    ),
    "Mistral-7B-v0.3": Published("mistral", 7_248_023_552, (4096, 14336, 32, 32, 8, 32768), UNTIED),
    "gemma-2-9b": Published(
        "gemma2", 9_241_705_984, (3584, 14336, 42, 16, 8, 256000), {"head_dim": 256}
    ),
    "Phi-3.5-mini": Published("phi3", 3_821_079_552, (3072, 8192, 32, 32, 32, 32064), UNTIED),
    "SmolLM2-1.7B": Published("llama", 1_711_376_384, (2048, 8192, 24, 32, 32, 49152), TIED),
    "OLMo-2-7B": Published("olmo2", 7_298_617_344, (4096, 11008, 32, 32, 32, 100352), UNTIED),
    "Mixtral-8x7B": Published(
        "mixtral",
        46_702_792_704,
        (4096, 14336, 32, 32, 8, 32000),
        {**UNTIED, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
}


@pytest.mark.parametrize("name", MODELS)
class TestPublishedSizes:
    def test_bfloat16(self, name: str) -> None:
        model = MODELS[name]
        shapes = ModelShapes.from_config(model.config(None))
        assert shapes.stored_bytes == pytest.approx(2 * model.parameters, rel=0.01)

    @pytest.mark.parametrize("bits", [8, 4])
    def test_quantized_in_groups_of_64(self, name: str, bits: int) -> None:
        """Each weight takes its bits and half of one for scale and bias; norms are nothing."""
        model = MODELS[name]
        shapes = ModelShapes.from_config(model.config(bits))
        expected = model.parameters * (bits + 32 / 64) / 8
        assert shapes.stored_bytes == pytest.approx(expected, rel=0.01)

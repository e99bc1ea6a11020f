"""The weights of well-known models, from what their publishers' config.json says.

Parameters are the exact counts that the models' files hold, two bytes each at bfloat16.
`PUBLISHED` are sizes of files that exist: the ``total_size`` that the repository's own
model.safetensors.index.json gives, as quoted in public sources (the makers' repositories at
bfloat16; mlx-community's at 8 and 4 bits, as in exo's model cards). Where no quoted size of a
quantized repository was found, the size follows from the count: each weight takes its bits, and
half a bit for the scale and bias of its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mlxft.memory.shapes import ModelShapes


@dataclass(frozen=True)
class Published:
    """A model's dimensions and exact parameter count; `small` counts norms and biases."""

    model_type: str
    parameters: int
    numbers: tuple[int, int, int, int, int, int]
    """hidden, intermediate, layers, heads, key-value heads, vocabulary"""
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

MODELS |= {
    "Llama-3.1-70B": Published("llama", 70_553_706_496, (8192, 28672, 80, 64, 8, 128256), UNTIED),
    "Llama-3.1-Nemotron-Nano-4B": Published(
        "llama", 4_512_746_496, (3072, 9216, 32, 32, 8, 128256), {**UNTIED, "head_dim": 128}
    ),
    "SmolLM2-135M": Published("llama", 134_515_008, (576, 1536, 30, 9, 3, 49152), TIED),
    "gpt-oss-20b": Published(
        "gpt_oss",
        20_914_757_184,
        (2880, 2880, 24, 64, 8, 201088),
        {**UNTIED, "head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4},
    ),
}

_DELTA_NET = {
    "head_dim": 256,
    "linear_num_value_heads": 32,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
}
_LATENT = {
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
}
_SHORT_CONVOLUTION = {
    "block_auto_adjust_ff_dim": True,
    "block_multiple_of": 256,
    "block_ffn_dim_multiplier": 1.0,
    "conv_L_cache": 3,
    "conv_bias": False,
    "full_attn_idxs": [2, 5, 8, 10, 12, 14],
}

NEWER = {
    "Qwen3.5-0.8B": Published(
        "qwen3_5",
        752_393_024,
        (1024, 3584, 24, 8, 2, 248320),
        {**_DELTA_NET, **TIED, "linear_num_value_heads": 16},
    ),
    "Qwen3.5-4B": Published(
        "qwen3_5", 4_205_751_296, (2560, 9216, 32, 16, 4, 248320), {**_DELTA_NET, **TIED}
    ),
    "Qwen3.5-9B": Published(
        "qwen3_5", 8_953_803_264, (4096, 12288, 32, 16, 4, 248320), {**_DELTA_NET, **UNTIED}
    ),
    "Qwen3-Next-80B-A3B": Published(
        "qwen3_next",
        79_674_391_296,
        (2048, 5120, 48, 16, 2, 151936),
        {
            **_DELTA_NET,
            **UNTIED,
            "num_experts": 512,
            "num_experts_per_tok": 10,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
    "DeepSeek-V3": Published(
        "deepseek_v3",
        671_026_419_200,
        (7168, 18432, 61, 128, 128, 129280),
        {**_LATENT, "n_routed_experts": 256, "first_k_dense_replace": 3},
    ),
    "Kimi-K2": Published(
        "kimi_k2",
        1_026_408_232_448,
        (7168, 18432, 61, 64, 64, 163840),
        {**_LATENT, "n_routed_experts": 384, "first_k_dense_replace": 1},
    ),
    "GLM-4.5-Air": Published(
        "glm4_moe",
        106_852_251_264,
        (4096, 10944, 46, 96, 8, 151552),
        {
            "head_dim": 128,
            "attention_bias": True,
            "use_qk_norm": False,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 1408,
            "first_k_dense_replace": 1,
        },
    ),
    "LFM2-350M": Published(
        "lfm2",
        354_483_968,
        (1024, 6656, 16, 16, 8, 65536),
        {**_SHORT_CONVOLUTION, "block_ff_dim": 6656},
    ),
    "LFM2-1.2B": Published(
        "lfm2",
        1_170_340_608,
        (2048, 12288, 16, 32, 8, 65536),
        {**_SHORT_CONVOLUTION, "block_ff_dim": 12288},
    ),
}
"""Without vision and multi-token prediction heads, which mlx-lm doesn't load."""

MODELS |= NEWER

PUBLISHED = [
    ("Llama-3.1-8B", None, 16_060_522_496),
    ("Llama-3.1-70B", None, 141_107_412_992),
    ("Llama-3.1-Nemotron-Nano-4B", None, 9_025_492_992),
    ("Qwen2.5-7B", None, 15_231_233_024),
    ("Qwen3-4B", None, 8_044_936_192),
    ("Mistral-7B-v0.3", None, 14_496_047_104),
    ("gemma-2-9b", None, 18_483_411_968),
    ("Phi-3.5-mini", None, 7_642_159_104),
    ("Mixtral-8x7B", None, 93_405_585_408),
    ("Llama-3.1-70B", 8, 74_964_549_632),
    ("Llama-3.1-Nemotron-Nano-4B", 8, 4_794_980_352),
    ("SmolLM2-135M", 8, 142_955_136),
    ("Llama-3.2-1B", 4, 695_242_752),
    ("Llama-3.2-3B", 4, 1_807_423_488),
    ("Llama-3.1-8B", 4, 4_517_404_672),
    ("Llama-3.1-70B", 4, 39_688_355_840),
    ("Llama-3.1-Nemotron-Nano-4B", 4, 2_538_706_944),
]


class TestPublishedFiles:
    @pytest.mark.parametrize(("name", "bits", "size"), PUBLISHED)
    def test_weights_have_the_size_of_the_repository(
        self, name: str, bits: int | None, size: int
    ) -> None:
        shapes = ModelShapes.from_config(MODELS[name].config(bits))
        assert shapes.stored_bytes == pytest.approx(size, rel=0.01)

    def test_mixed_bits_are_counted_per_matrix(self) -> None:
        """gpt-oss-20b-MXFP4-Q8: experts in MXFP4, the rest in 8 bits."""
        eight = {"group_size": 64, "bits": 8}
        inside = [*(f"self_attn.{x}_proj" for x in "qkvo"), "mlp.router"]
        own = {f"model.layers.{at}.{name}": eight for at in range(24) for name in inside}
        config = MODELS["gpt-oss-20b"].config(None)
        config["quantization"] = {
            "group_size": 32,
            "bits": 4,
            "mode": "mxfp4",
            **own,
            "model.embed_tokens": eight,
            "lm_head": eight,
        }
        shapes = ModelShapes.from_config(config)
        assert shapes.stored_bytes == pytest.approx(12_076_119_168, rel=0.01)


@pytest.mark.parametrize("name", NEWER)
def test_newer_families_are_counted_exactly(name: str) -> None:
    model = NEWER[name]
    assert ModelShapes.from_config(model.config(None)).parameters == model.parameters


@pytest.mark.parametrize("name", MODELS)
class TestCountedSizes:
    def test_bfloat16(self, name: str) -> None:
        model = MODELS[name]
        shapes = ModelShapes.from_config(model.config(None))
        assert shapes.stored_bytes == pytest.approx(2 * model.parameters, rel=0.01)

    @pytest.mark.parametrize("bits", [8, 4])
    def test_quantized_in_groups_of_64(self, name: str, bits: int) -> None:
        """Each weight takes its bits plus half a bit for scale and bias; norms are negligible."""
        model = MODELS[name]
        shapes = ModelShapes.from_config(model.config(bits))
        expected = model.parameters * (bits + 32 / 64) / 8
        assert shapes.stored_bytes == pytest.approx(expected, rel=0.01)

"""The models and settings at which the memory estimate is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlxft import recipe as recipes
from mlxft.recipe import Recipe

_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def _llama(hidden: int, inner: int, *, layers: int, heads: tuple[int, int], vocabulary: int) -> Any:
    return {
        **_LLAMA,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": hidden // heads[0],
        "vocab_size": vocabulary,
    }


_DELTA_NET: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
}

_LATENT: dict[str, Any] = {
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 1,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "narrow": _llama(256, 768, layers=8, heads=(8, 2), vocabulary=4096),
    "deep": _llama(384, 1024, layers=24, heads=(6, 6), vocabulary=1024),
    "135M": _llama(576, 1536, layers=30, heads=(9, 3), vocabulary=49152),
    "1B": _llama(2048, 8192, layers=16, heads=(32, 8), vocabulary=128256),
    "3B": _llama(3072, 8192, layers=28, heads=(24, 8), vocabulary=128256),
    "wide": {
        **_llama(768, 2304, layers=6, heads=(12, 4), vocabulary=2048),
        "model_type": "qwen3",
        "head_dim": 128,
    },
    "head 192": {
        **_llama(512, 1536, layers=6, heads=(4, 2), vocabulary=2048),
        "head_dim": 192,
    },
    "head 256": {
        **_llama(512, 1536, layers=6, heads=(4, 2), vocabulary=2048),
        "head_dim": 256,
    },
    "unfused": {
        **_llama(512, 2048, layers=8, heads=(8, 4), vocabulary=4096),
        "model_type": "gemma2",
    },
    "0.5B": {
        **_llama(896, 4864, layers=24, heads=(14, 2), vocabulary=151936),
        "model_type": "qwen2",
    },
    "experts": {
        **_llama(512, 1024, layers=8, heads=(8, 2), vocabulary=4096),
        "model_type": "qwen3_moe",
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 256,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    },
    "recurrent": {
        **_llama(256, 768, layers=8, heads=(4, 2), vocabulary=4096),
        **_DELTA_NET,
        "model_type": "qwen3_5",
    },
    "recurrent experts": {
        **_llama(256, 768, layers=8, heads=(4, 2), vocabulary=4096),
        **_DELTA_NET,
        "model_type": "qwen3_5_moe",
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 128,
        "shared_expert_intermediate_size": 128,
    },
    "latent": {
        **_llama(256, 768, layers=8, heads=(4, 4), vocabulary=4096),
        **_LATENT,
        "model_type": "deepseek_v3",
    },
    "own inputs": {
        **_llama(256, 768, layers=8, heads=(4, 2), vocabulary=4096),
        "model_type": "gemma4_text",
        "global_head_dim": 128,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 32,
        "vocab_size_per_layer_input": 4096,
        "sliding_window": 64,
        "sliding_window_pattern": 2,
    },
    "convolution": {
        **_llama(384, 1024, layers=8, heads=(6, 2), vocabulary=4096),
        "model_type": "lfm2",
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 384,
        "block_ff_dim": 1536,
        "block_multiple_of": 128,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": True,
        "layer_types": ["conv", "conv", "full_attention", "conv"] * 2,
    },
}


@dataclass(frozen=True)
class Point:
    """One measurement: a model's config and bits, the tokens of a row, and recipe settings."""

    config: str
    length: int
    settings: dict[str, str] = field(default_factory=dict)
    bits: int | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe; batch 2 and 4 layers unless the settings say otherwise."""
        base = Recipe(batch_size=2, num_layers=4, max_seq_length=self.length + 1)
        return recipes.apply_settings(base, [f"{k}={v}" for k, v in self.settings.items()])

    def model_config(self, dtype: str) -> dict[str, Any]:
        """The model's config.json."""
        config = {**CONFIGS[self.config], "torch_dtype": dtype}
        if self.bits is not None:
            config["quantization"] = {"group_size": 64, "bits": self.bits}
        return config


def _points(*rows: tuple[str, int, str] | tuple[str, int, str, int]) -> list[Point]:
    return [
        Point(row[0], row[1], dict(each.split("=") for each in row[2].split()), *row[3:])
        for row in rows
    ]


CPU_POINTS = _points(
    ("narrow", 32, "num_layers=2"),
    ("narrow", 32, "num_layers=-1 batch_size=4"),
    ("narrow", 128, "num_layers=2"),
    ("narrow", 128, "num_layers=-1"),
    ("narrow", 128, "num_layers=-1 grad_checkpoint=true"),
    ("narrow", 128, "num_layers=-1 lora_parameters.rank=64"),
    ("narrow", 128, "num_layers=-1 grad_accumulation_steps=3 lora_parameters.rank=64"),
    ("narrow", 128, "num_layers=-1 fine_tune_type=dora"),
    ("narrow", 128, "num_layers=4 fine_tune_type=full"),
    ("narrow", 128, "num_layers=-1 fine_tune_type=full optimizer=adamw"),
    ("narrow", 32, "num_layers=-1 fine_tune_type=full optimizer=sgd"),
    ("narrow", 32, "num_layers=-1 fine_tune_type=full optimizer=muon"),
    ("narrow", 32, "num_layers=-1 fine_tune_type=full optimizer=adafactor"),
    ("narrow", 32, "num_layers=-1 fine_tune_type=full grad_checkpoint=true"),
    ("narrow", 256, "num_layers=2 batch_size=4"),
    ("narrow", 512, "num_layers=4 batch_size=1"),
    ("narrow", 512, "num_layers=-1 batch_size=1 grad_checkpoint=true"),
    ("narrow", 64, "num_layers=-1", 4),
    ("deep", 64, "num_layers=1"),
    ("deep", 64, "num_layers=12"),
    ("deep", 64, "num_layers=-1"),
    ("deep", 64, "num_layers=-1 grad_checkpoint=true"),
    ("deep", 128, "num_layers=16 grad_checkpoint=true batch_size=4"),
    ("deep", 128, "num_layers=16 batch_size=1"),
    ("wide", 64, "num_layers=1"),
    ("wide", 64, "num_layers=-1"),
    ("wide", 256, "num_layers=-1 batch_size=1"),
    ("wide", 64, "num_layers=-1 grad_checkpoint=true"),
    ("unfused", 64, "num_layers=4"),
    ("unfused", 256, "num_layers=-1 batch_size=1"),
    ("experts", 64, "num_layers=-1"),
    ("experts", 64, "num_layers=4 grad_checkpoint=true"),
    ("135M", 64, "num_layers=4"),
    ("135M", 128, "num_layers=4"),
    ("135M", 128, "num_layers=16 batch_size=1"),
    ("135M", 64, "num_layers=-1 grad_checkpoint=true"),
    ("135M", 64, "num_layers=1 batch_size=4 grad_checkpoint=true", 8),
    ("narrow", 1024, "num_layers=4 batch_size=1 grad_checkpoint=true"),
    ("narrow", 64, "num_layers=-1 batch_size=16"),
    ("135M", 256, "num_layers=-1 batch_size=2 grad_checkpoint=true"),
    ("deep", 64, "num_layers=-1 batch_size=8 optimizer=adamw lora_parameters.rank=4"),
    ("wide", 128, "num_layers=4 fine_tune_type=dora lora_parameters.rank=16"),
    ("deep", 128, "num_layers=8 fine_tune_type=full optimizer=sgd grad_checkpoint=true"),
    ("narrow", 256, "num_layers=-1 batch_size=8 grad_checkpoint=true"),
    ("narrow", 256, "num_layers=-1 packing=true"),
    ("narrow", 2048, "num_layers=4 batch_size=1"),
    ("narrow", 4096, "num_layers=2 batch_size=1 grad_checkpoint=true"),
    ("deep", 512, "num_layers=4 packing=true"),
    ("135M", 512, "num_layers=4 packing=true"),
    ("unfused", 512, "num_layers=4"),
    ("unfused", 256, "num_layers=4 grad_checkpoint=true"),
    ("unfused", 128, "num_layers=-1 batch_size=4"),
    ("head 192", 700, "num_layers=4 batch_size=1"),
    ("head 192", 1100, "num_layers=-1 batch_size=1 grad_checkpoint=true"),
    ("head 192", 900, "num_layers=4 batch_size=1 packing=true"),
    ("head 192", 1300, "num_layers=-1 batch_size=1 packing=true grad_checkpoint=true"),
    ("head 256", 900, "num_layers=2 batch_size=1"),
    ("head 256", 1000, "num_layers=-1 batch_size=1 grad_checkpoint=true"),
    ("head 256", 700, "num_layers=4 batch_size=2 packing=true"),
    ("head 256", 1500, "num_layers=4 batch_size=1 packing=true grad_checkpoint=true"),
    ("wide", 1000, "num_layers=4 batch_size=1"),
    ("wide", 1100, "num_layers=4 batch_size=1 packing=true"),
    ("narrow", 1500, "num_layers=-1 batch_size=1 packing=true grad_checkpoint=true"),
    ("narrow", 1900, "num_layers=4 batch_size=1"),
    ("deep", 300, "num_layers=-1 packing=true grad_checkpoint=true"),
    ("135M", 300, "num_layers=4 packing=true grad_checkpoint=true"),
    ("recurrent", 700, "num_layers=5 batch_size=1"),
    ("recurrent", 1000, "num_layers=4 batch_size=1 grad_checkpoint=true"),
    ("recurrent", 700, "num_layers=4 batch_size=1 packing=true"),
    ("recurrent", 500, "num_layers=-1 packing=true grad_checkpoint=true"),
    ("recurrent", 64, "num_layers=-1"),
    ("recurrent", 64, "num_layers=-1 fine_tune_type=full"),
    ("recurrent", 128, "num_layers=4 fine_tune_type=dora"),
    ("recurrent", 256, "num_layers=4"),
    ("recurrent", 256, "num_layers=4 grad_checkpoint=true"),
    ("recurrent", 512, "num_layers=2 batch_size=1"),
    ("recurrent", 512, "num_layers=5 batch_size=1"),
    ("recurrent", 512, "num_layers=5 batch_size=1 grad_checkpoint=true"),
    ("recurrent experts", 64, "num_layers=-1"),
    ("recurrent experts", 128, "num_layers=-1 grad_checkpoint=true"),
    ("latent", 64, "num_layers=4"),
    ("latent", 256, "num_layers=-1"),
    ("latent", 256, "num_layers=-1 grad_checkpoint=true"),
    ("latent", 512, "num_layers=4 batch_size=1"),
    ("latent", 64, "num_layers=4 fine_tune_type=full"),
    ("own inputs", 64, "num_layers=2"),
    ("own inputs", 256, "num_layers=-1"),
    ("own inputs", 64, "num_layers=-1 grad_checkpoint=true"),
    ("convolution", 64, "num_layers=-1"),
    ("convolution", 256, "num_layers=-1"),
    ("convolution", 64, "num_layers=-1 grad_checkpoint=true"),
    ("convolution", 64, "num_layers=-1 fine_tune_type=full"),
)
"""Small enough for two CPU cores."""

GPU_POINTS = _points(
    ("1B", 512, "num_layers=4 batch_size=1"),
    ("1B", 512, "num_layers=16 batch_size=4"),
    ("1B", 1024, "num_layers=16 batch_size=4 grad_checkpoint=true", 4),
    ("1B", 1024, "num_layers=4 batch_size=2 fine_tune_type=dora", 4),
    ("1B", 512, "num_layers=16 batch_size=2 fine_tune_type=full"),
    ("1B", 512, "num_layers=4 batch_size=1 fine_tune_type=full grad_checkpoint=true"),
    ("3B", 512, "num_layers=1 batch_size=4 grad_checkpoint=true", 4),
    ("3B", 2048, "num_layers=16 batch_size=4 grad_checkpoint=true", 4),
    ("3B", 1024, "num_layers=16 batch_size=1", 4),
    ("3B", 512, "num_layers=-1 batch_size=2 lora_parameters.rank=64", 8),
    ("3B", 256, "num_layers=8 batch_size=16", 4),
    ("0.5B", 1000, "num_layers=8 batch_size=1 grad_checkpoint=true", 4),
    ("0.5B", 1000, "num_layers=8 batch_size=2", 4),
    ("135M", 512, "num_layers=-1 batch_size=4"),
    ("experts", 512, "num_layers=-1 batch_size=4", 4),
    ("unfused", 512, "num_layers=-1 batch_size=4"),
    ("1B", 128, "num_layers=1 batch_size=1"),
    ("1B", 128, "num_layers=-1 batch_size=16 grad_checkpoint=true", 8),
    ("1B", 4096, "num_layers=4 batch_size=1 grad_checkpoint=true"),
    ("1B", 2048, "num_layers=-1 batch_size=2 grad_checkpoint=true", 4),
    ("1B", 2048, "num_layers=4 batch_size=4", 8),
    ("1B", 512, "num_layers=4 batch_size=4 optimizer=adamw lora_parameters.rank=64"),
    ("1B", 512, "num_layers=4 batch_size=2 fine_tune_type=full optimizer=sgd"),
    ("1B", 512, "num_layers=4 batch_size=2 fine_tune_type=full optimizer=adafactor"),
    ("1B", 1024, "num_layers=16 batch_size=2 fine_tune_type=dora grad_checkpoint=true"),
    ("1B", 256, "num_layers=16 batch_size=8 grad_accumulation_steps=2 lora_parameters.rank=32"),
    ("3B", 512, "num_layers=4 batch_size=4"),
    ("3B", 1024, "num_layers=-1 batch_size=4 grad_checkpoint=true"),
    ("3B", 4096, "num_layers=1 batch_size=1 grad_checkpoint=true", 4),
    ("3B", 4096, "num_layers=16 batch_size=2 grad_checkpoint=true", 4),
    ("3B", 128, "num_layers=16 batch_size=16", 8),
    ("3B", 2048, "num_layers=4 batch_size=1", 4),
    ("3B", 1024, "num_layers=16 batch_size=4 fine_tune_type=dora grad_checkpoint=true", 4),
    ("3B", 512, "num_layers=4 batch_size=1 fine_tune_type=full grad_checkpoint=true"),
    ("3B", 1024, "num_layers=8 batch_size=8 lora_parameters.rank=4 optimizer=sgd", 4),
    ("0.5B", 2048, "num_layers=-1 batch_size=4 grad_checkpoint=true"),
    ("0.5B", 512, "num_layers=-1 batch_size=8", 8),
    ("135M", 128, "num_layers=1 batch_size=16"),
    ("135M", 2048, "num_layers=-1 batch_size=2 grad_checkpoint=true"),
    ("experts", 1024, "num_layers=4 batch_size=4 grad_checkpoint=true"),
    ("1B", 1024, "num_layers=4 batch_size=4 packing=true"),
    ("3B", 1024, "num_layers=8 batch_size=2 packing=true grad_checkpoint=true", 4),
    ("1B", 256, "num_layers=8 batch_size=1 fine_tune_type=full optimizer=adamw"),
    ("unfused", 1024, "num_layers=4 batch_size=1 grad_checkpoint=true"),
    ("unfused", 512, "num_layers=4 batch_size=4"),
    ("unfused", 256, "num_layers=-1 batch_size=8"),
    ("unfused", 512, "num_layers=-1 batch_size=4 grad_checkpoint=true"),
    ("unfused", 1024, "num_layers=2 batch_size=2"),
    ("1B", 512, "num_layers=8 batch_size=4 packing=true"),
    ("1B", 1024, "num_layers=-1 batch_size=2 packing=true grad_checkpoint=true"),
    ("0.5B", 1024, "num_layers=4 batch_size=4 packing=true"),
    ("experts", 512, "num_layers=2 batch_size=8"),
    ("experts", 512, "num_layers=-1 batch_size=4 grad_checkpoint=true", 4),
    ("wide", 512, "num_layers=-1 batch_size=8"),
    ("135M", 1024, "num_layers=16 batch_size=4 fine_tune_type=dora"),
    ("0.5B", 512, "num_layers=12 batch_size=2 fine_tune_type=full"),
    ("1B", 1900, "num_layers=16 batch_size=2"),
    ("1B", 700, "num_layers=16 batch_size=4 packing=true grad_checkpoint=true"),
    ("3B", 2047, "num_layers=16 batch_size=4 grad_checkpoint=true", 4),
    ("3B", 1300, "num_layers=16 batch_size=2", 4),
    ("3B", 2000, "num_layers=16 batch_size=2 packing=true", 4),
    ("head 192", 1900, "num_layers=-1 batch_size=4"),
    ("head 192", 3900, "num_layers=-1 batch_size=2 grad_checkpoint=true"),
    ("head 192", 2900, "num_layers=4 batch_size=2 packing=true"),
    ("head 256", 1900, "num_layers=-1 batch_size=4"),
    ("head 256", 3900, "num_layers=-1 batch_size=2 grad_checkpoint=true"),
    ("head 256", 2900, "num_layers=4 batch_size=2 packing=true grad_checkpoint=true"),
    ("recurrent", 2000, "num_layers=-1 batch_size=4"),
    ("recurrent", 2048, "num_layers=-1 batch_size=4 grad_checkpoint=true"),
    ("recurrent", 1000, "num_layers=4 batch_size=4 packing=true"),
    ("recurrent", 3900, "num_layers=-1 batch_size=2 packing=true grad_checkpoint=true"),
)
"""For a GPU; bfloat16 unless quantized."""

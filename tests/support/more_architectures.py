"""The config.json of a tiny model of every family that mlx_lm ships."""

from __future__ import annotations

import inspect
from copy import deepcopy
from functools import cache
from importlib import import_module

from mlx_lm.utils import MODEL_REMAPPING

from support.architectures import (
    ARCHITECTURES,
    COMMON,
    EXPERTS,
    LATENT_ATTENTION,
    PARTICULARS,
    RECURRENT,
    SLIDING_THEN_FULL,
    VOCABULARY,
    Config,
)

_POOL: Config = {
    **COMMON,
    **EXPERTS,
    **LATENT_ATTENTION,
    "num_local_experts": 4,
    "num_shared_experts": 1,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "decoder_sparse_step": 1,
    "moe_layer_freq": 1,
    "mlp_only_layers": [],
    "routed_scaling_factor": 1.5,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "index_n_heads": 2,
    "index_head_dim": 32,
    "index_topk": 8,
    "attention_bias": False,
    "mlp_bias": False,
    "use_bias": False,
    "use_conv_bias": True,
    "use_qk_norm": True,
    "tie_word_embeddings": False,
    "sliding_window": 8,
    "layer_types": SLIDING_THEN_FULL,
    "conv_kernel": 4,
    "state_size": 8,
    "partial_rotary_factor": 0.5,
    "layer_norm_epsilon": 1e-5,
    "norm_eps": 1e-5,
    "rope_scaling": None,
}
"""Values of many families below; each takes those of its own fields."""

_MAMBA: Config = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "state_size": 8,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 8,
    "tie_word_embeddings": True,
}

_GEMMA3: Config = {**COMMON, **PARTICULARS["gemma3_text"], "model_type": "gemma3_text"}

_GEMMA4: Config = {**COMMON, **PARTICULARS["gemma4_text"], "model_type": "gemma4_text"}

_GPT: Config = {
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "layer_norm_epsilon": 1e-5,
}

_LONGCAT: Config = {
    "attention_method": "MLA",
    "zero_expert_type": "identity",
    "zero_expert_num": 2,
    "ffn_hidden_size": 96,
    "expert_ffn_hidden_size": 32,
    "moe_topk": 2,
    "num_layers": 2,
    "mla_scale_q_lora": True,
    "mla_scale_kv_lora": True,
}

_KIMI_DELTA: Config = {
    "linear_attn_config": {
        "kda_layers": [1],
        "full_attn_layers": [2],
        "num_heads": 2,
        "head_dim": 32,
        "short_conv_kernel_size": 4,
    },
    "num_experts_per_token": 2,
    "num_key_value_heads": 4,
    "model_max_length": 128,
    "qk_nope_head_dim": 32,
}

_ROPE: Config = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}

_LLAMA4_SCALING: Config = {
    "rope_parameters": {
        "rope_theta": 10000.0,
        "rope_type": "default",
        "type": "default",
        "llama_4_scaling_beta": 0.1,
        "original_max_position_embeddings": 40,
    }
}

_OTHERS: dict[str, Config] = {
    "Klear": {},
    "afm7": {
        "hidden_dim": 64,
        "num_layers": 3,
        "num_kv_reuse_layers": 1,
        "num_heads": 4,
        "num_kv_heads": 2,
        "hidden_dim_scale_factor": 2.0,
    },
    "afmoe": {"num_dense_layers": 1},
    "apertus": {"post_norm": False, "qk_norm": True},
    "baichuan_m1": {"sliding_window_layers": [0], "conv_window": 2},
    "bailing_hybrid": {"layer_group_size": 2, "group_norm_size": 2},
    "bailing_moe": {},
    "bailing_moe_linear": {"layer_group_size": 2, "group_norm_size": 2},
    "bailing_moe_v3": {"layer_group_size": 2, "moe_shared_expert_intermediate_size": 32},
    "bitnet": {},
    "dbrx": {
        "d_model": 64,
        "n_layers": 2,
        "n_heads": 4,
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
    },
    "deepseek": {},
    "deepseek_v32": {},
    "deepseek_v41": {
        "qk_rope_head_dim": 16,
        "o_groups": 2,
        "o_lora_rank": 32,
        "compress_ratios": [0, 0],
        "hc_mult": 2,
    },
    "dots1": {},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1},
    "exaone_moe": {"is_moe_layer": [False, True]},
    "falcon_mamba": {**_MAMBA, "mixer_rms_eps": 1e-5},
    "gear": {"layer_types": ["conv_mixer", "full_attention"], "query_pre_attn_scalar": 24.0},
    "gemma3": {"text_config": _GEMMA3},
    "gemma4": {"text_config": _GEMMA4},
    "gemma4_unified": {"text_config": _GEMMA4},
    "glm": {},
    "glm4_moe": {},
    "glm4_moe_lite": {},
    "glm_moe_dsa": _ROPE,
    "gpt2": {**_GPT, "n_ctx": 128},
    "gpt_bigcode": {**_GPT, "n_inner": 96},
    "gpt_neox": {"rotary_emb_base": 10000, "rotary_pct": 0.5},
    "gptj": {**_GPT, "rotary_dim": 8},
    "helium": {},
    "hunyuan": {
        "num_experts": 4,
        "moe_topk": 2,
        "num_shared_expert": 1,
        "use_mixed_mlp_moe": True,
        "use_cla": True,
        "cla_share_factor": 2,
        "rope_scaling": {"alpha": 2.0, "factor": 1.0, "type": "dynamic"},
    },
    "iquestcoder": {},
    "iquestloopcoder": {"loop_window_size": 8},
    "jamba": {
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "mamba_d_conv": 4,
        "mamba_d_state": 8,
        "mamba_expand": 2,
    },
    "joyai_llm_flash": {},
    "kimi_k2": {},
    "kimi_k25": {"text_config": {**_POOL, "model_type": "deepseek_v3"}},
    "kimi_k3": {
        "text_config": {
            **_POOL,
            **_KIMI_DELTA,
            "attn_res_block_size": 2,
            "routed_expert_hidden_size": 32,
            "qk_nope_head_dim": 32,
        }
    },
    "kimi_vl": {"text_config": {**_POOL, "model_type": "deepseek_v3"}},
    "laguna": {
        "num_attention_heads_per_layer": [4, 4],
        "mlp_layer_types": ["dense", "sparse"],
        "rope_parameters": {
            kind: {"rope_theta": 10000.0, "rope_type": "default"} for kind in SLIDING_THEN_FULL
        },
    },
    "lfm2-vl": {"text_config": {**COMMON, **PARTICULARS["lfm2"], "model_type": "lfm2"}},
    "lille-130m": {**_GPT, "block_size": 128, "n_kv_heads": 2},
    "llama4": {
        "text_config": {
            **_POOL,
            "attention_chunk_size": 8,
            "interleave_moe_layer_step": 2,
            "intermediate_size_mlp": 96,
            "model_type": "llama4_text",
            "num_experts_per_tok": 1,
            "num_hidden_layers": 4,
        }
    },
    "llama4_text": {"intermediate_size_mlp": 96, "no_rope_layers": [1, 0]},
    "llava": {"text_config": {**COMMON, "model_type": "llama"}},
    "longcat_flash": _LONGCAT,
    "longcat_flash_ngram": {
        **_LONGCAT,
        "ngram_vocab_size_ratio": 2,
        "emb_neighbor_num": 2,
        "emb_split_num": 2,
    },
    "mamba": _MAMBA,
    "mellum": {
        "rope_parameters": {
            kind: {"rope_theta": 10000.0, "rope_type": "default"} for kind in SLIDING_THEN_FULL
        },
    },
    "mimo": {},
    "mimo_v2_flash": {
        "hybrid_layer_pattern": [1, 0],
        "moe_layer_freq": [0, 1],
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
        "sliding_window_size": 8,
        "layernorm_epsilon": 1e-5,
        "swa_rope_theta": 10000.0,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 32,
        "swa_v_head_dim": 32,
        "num_key_value_heads": 2,
    },
    "minicpm3": {
        "dim_model_base": 32,
        "scale_depth": 1.4,
        "scale_emb": 4.0,
        "num_key_value_heads": 4,
        "rope_scaling": {
            "type": "longrope",
            "original_max_position_embeddings": 64,
            "long_factor": [1.0] * 16,
            "short_factor": [1.0] * 16,
        },
    },
    "minimax": {"rotary_dim": 16, "num_key_value_heads": 2},
    "minimax_m2": {"rotary_dim": 16, "num_key_value_heads": 2},
    "minimax_m3_vl": {
        "text_config": {
            **_POOL,
            "num_key_value_heads": 2,
            "intermediate_size": 32,
            "dense_intermediate_size": 96,
            "rotary_dim": 16,
            "mlp_layer_types": ["dense", "sparse"],
            "layer_types": ["full_attention", "sparse_attention"],
            "index_block_size": 4,
            "index_topk_blocks": 2,
        }
    },
    "mistral3": {"text_config": {**_POOL, **_LLAMA4_SCALING, "model_type": "ministral3"}},
    "mistral4": _LLAMA4_SCALING,
    "muse_glimmer": _ROPE,
    "nanbeige": {"num_loops": 2},
    "nanochat": {"num_key_value_heads": 4},
    "nemotron-nas": {
        "block_configs": [
            {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.5}},
            {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.5}},
        ]
    },
    "openelm": {
        "head_dim": 16,
        "num_transformer_layers": 2,
        "model_dim": 64,
        "ffn_dim_divisor": 32,
        "num_query_heads": [4, 4],
        "num_kv_heads": [2, 2],
        "ffn_multipliers": [1.0, 1.5],
    },
    "phimoe": {
        "rope_scaling": {
            "long_factor": [1.0] * 8,
            "short_factor": [1.0] * 8,
            "long_mscale": 1.0,
            "short_mscale": 1.0,
        }
    },
    "phixtral": {
        "num_vocab": VOCABULARY,
        "model_dim": 64,
        "num_heads": 4,
        "num_layers": 2,
        "rotary_dim": 8,
    },
    "pixtral": {"text_config": {**COMMON, "model_type": "mistral"}},
    "plamo": {"n_shared_head": 2},
    "plamo2": {
        "hidden_size_per_head": 16,
        "attention_window_size": 8,
        "mamba_d_state": 8,
        "mamba_num_heads": 4,
        "num_key_value_heads": 2,
    },
    "plamo3": {"window_size": 8, "sliding_window_pattern": 2, "num_key_value_heads": 2},
    "qwen": {"kv_channels": 16},
    "qwen2_5_vl": {"text_config": {**COMMON, "model_type": "qwen2", "head_dim": 16}},
    "qwen2_vl": {"text_config": {**COMMON, "model_type": "qwen2", "head_dim": 16}},
    "qwen3_vl": {"text_config": {**COMMON, "tie_word_embeddings": True, "model_type": "qwen3"}},
    "qwen3_vl_moe": {
        "text_config": {**COMMON, **PARTICULARS["qwen3_moe"], "model_type": "qwen3_moe"}
    },
    "recurrent_gemma": {
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "attention_window_size": 8,
        "block_types": ["recurrent", "attention"],
    },
    "rwkv7": {
        "a_low_rank_dim": 8,
        "v_low_rank_dim": 8,
        "gate_low_rank_dim": 8,
        "decay_low_rank_dim": 8,
    },
    "solar_open": {},
    "spark2_5": {
        "rope_parameters": {
            kind: {"rope_theta": 10000.0, "rope_type": "default"} for kind in SLIDING_THEN_FULL
        }
    },
    "step3p5": {
        "num_attention_groups": 2,
        "moe_num_experts": 4,
        "moe_top_k": 2,
        "share_expert_dim": 32,
        "rope_theta": [10000.0, 10000.0],
    },
    "talkie": {"num_key_value_heads": 4, "head_dim": 16},
    "telechat3": {},
    "xverse": {},
    "youtu_llm": {},
}


FAMILIES = tuple({**ARCHITECTURES, **RECURRENT, **_OTHERS})
"""Every model_type that mlx_lm loads, but for olmo and phi3small, whose modules end the process."""


def config_of(family: str, vocabulary: int = VOCABULARY) -> Config:
    """A family's config.json for this many tokens."""
    config = deepcopy(_config_of(family))
    inner = config.get("text_config")
    for each in (config, *([inner] if inner else [])):
        for name in {"vocab_size", "num_vocab"} & each.keys():
            each[name] = vocabulary
    return config


@cache
def _config_of(family: str) -> Config:
    """The config with those of the pool's values that the family's code reads."""
    if known := {**ARCHITECTURES, **RECURRENT}.get(family):
        return known
    particulars = _OTHERS[family]
    name = MODEL_REMAPPING.get(family, family)
    fields = inspect.signature(import_module(f"mlx_lm.models.{name}").ModelArgs).parameters
    taken = {key: value for key, value in _POOL.items() if key in fields}
    return {**taken, **particulars, "model_type": family}

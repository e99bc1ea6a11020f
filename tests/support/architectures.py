"""The config.json of a tiny model of the more common families, all tested in depth."""

from __future__ import annotations

from typing import Any

VOCABULARY = 96


Config = dict[str, Any]


COMMON: Config = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}


EXPERTS: Config = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}


LATENT_ATTENTION: Config = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}


_YARN: Config = {
    "type": "yarn",
    "factor": 2.0,
    "original_max_position_embeddings": 64,
    "mscale": 0.7,
    "mscale_all_dim": 0.7,
    "beta_fast": 32,
    "beta_slow": 1,
}


LINEAR_ATTENTION: Config = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 1,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "partial_rotary_factor": 0.5,
}


SLIDING_THEN_FULL = ["sliding_attention", "full_attention"]


GRANITE: Config = {
    "logits_scaling": 6.0,
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "attention_bias": False,
    "mlp_bias": False,
}


_GEMMA3N: Config = {
    **COMMON,
    "model_type": "gemma3n_text",
    "num_hidden_layers": 3,
    "intermediate_size": [96, 96, 96],
    "num_kv_shared_layers": 1,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 32,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "rope_local_base_freq": 10000.0,
    "final_logit_softcapping": 5.0,
    "activation_sparsity_pattern": [0.9, 0.0, 0.0],
    "altup_num_inputs": 2,
    "altup_coef_clip": 120.0,
    "altup_correct_scale": True,
    "altup_active_idx": 0,
    "laurel_rank": 8,
}


PARTICULARS: dict[str, Config] = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {
        "tie_word_embeddings": False,
        "sliding_window": 8,
        "layer_types": SLIDING_THEN_FULL,
    },
    "ministral3": {
        "rope_parameters": {
            "rope_theta": 10000.0,
            "rope_type": "default",
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 8,
        },
        "sliding_window": 8,
        "layer_types": SLIDING_THEN_FULL,
    },
    "qwen2": {"head_dim": 16, "tie_word_embeddings": True},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": {"tie_word_embeddings": True},
    "qwen3_moe": {
        **EXPERTS,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [],
        "tie_word_embeddings": False,
    },
    "qwen3_next": {
        **EXPERTS,
        **LINEAR_ATTENTION,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "shared_expert_intermediate_size": 32,
    },
    "qwen3_5": {
        **LINEAR_ATTENTION,
        "rope_parameters": {
            "type": "default",
            "mrope_section": [4, 2, 2],
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    },
    "gemma": {},
    "gemma2": {
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 24.0,
    },
    "gemma3_text": {
        "query_pre_attn_scalar": 24.0,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
        "num_key_value_heads": 1,
    },
    "gemma3n": {"text_config": _GEMMA3N},
    "gemma4_text": {
        "num_hidden_layers": 4,
        "global_head_dim": 32,
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 32,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
        "final_logit_softcapping": 5.0,
    },
    "phi": {"partial_rotary_factor": 0.5, "num_key_value_heads": 4},
    "phi3": {"tie_word_embeddings": False},
    "mixtral": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": {**GRANITE, "tie_word_embeddings": True},
    "granitemoe": {
        **GRANITE,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
    "cohere": {"logit_scale": 0.25, "use_qk_norm": True},
    "cohere2": {
        "head_dim": 16,
        "logit_scale": 0.25,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
    },
    "olmo2": {"tie_word_embeddings": False},
    "olmo3": {"sliding_window": 8, "layer_types": SLIDING_THEN_FULL},
    "olmoe": {**EXPERTS, "intermediate_size": 32},
    "smollm3": {"no_rope_layer_interval": 2, "tie_word_embeddings": True},
    "deepseek_v2": {**LATENT_ATTENTION, "topk_method": "greedy", "rope_scaling": _YARN},
    "deepseek_v3": {**LATENT_ATTENTION, "routed_scaling_factor": 1.5},
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 8,
        "layer_types": SLIDING_THEN_FULL,
    },
    "lfm2": {
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 64,
        "block_ff_dim": 96,
        "block_multiple_of": 32,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention"],
    },
    "lfm2_moe": {
        **EXPERTS,
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "use_expert_bias": True,
        "num_dense_layers": 1,
        "layer_types": ["conv", "full_attention"],
    },
    "glm4": {"attention_bias": True, "partial_rotary_factor": 0.5},
    "starcoder2": {"norm_epsilon": 1e-5, "tie_word_embeddings": True},
    "stablelm": {"use_qkv_bias": True, "partial_rotary_factor": 0.5, "qk_layernorm": True},
    "internlm2": {"bias": True},
    "internlm3": {"qkv_bias": True},
    "exaone": {"head_dim": 16, "num_layers": 2, "layer_norm_epsilon": 1e-5},
    "exaone4": {
        "rope_scaling": {"rope_type": "default"},
        "sliding_window": 8,
        "sliding_window_pattern": "LG",
        "tie_word_embeddings": True,
    },
    "ernie4_5": {"use_bias": True, "tie_word_embeddings": True},
    "nemotron": {"hidden_act": "relu2", "norm_eps": 1e-5},
    "minicpm": {"dim_model_base": 32, "scale_depth": 1.4, "scale_emb": 4.0},
    "hunyuan_v1_dense": {
        "use_qk_norm": True,
        "rope_scaling": {"alpha": 2.0, "factor": 1.0, "type": "dynamic"},
    },
    "seed_oss": {"attention_bias": True, "tie_word_embeddings": False},
}


ARCHITECTURES: dict[str, Config] = {
    model_type: {**COMMON, "model_type": model_type, **particulars}
    for model_type, particulars in PARTICULARS.items()
}
"""A model's config.json by its model_type."""


_MAMBA2: Config = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_n_groups": 2,
    "mamba_proj_bias": False,
    "mamba_conv_bias": True,
}


_RECURRENT_PARTICULARS: dict[str, Config] = {
    "qwen3_5_moe": {**ARCHITECTURES["qwen3_5"], **EXPERTS, "shared_expert_intermediate_size": 32},
    "kimi_linear": {
        **LATENT_ATTENTION,
        "num_experts": 4,
        "num_experts_per_token": 2,
        "model_max_length": 128,
        "linear_attn_config": {
            "num_heads": 2,
            "head_dim": 32,
            "short_conv_kernel_size": 4,
            "kda_layers": [1],
        },
    },
    "olmo_hybrid": {
        **LINEAR_ATTENTION,
        "linear_allow_neg_eigval": True,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "mamba2": {
        "num_heads": 4,
        "head_dim": 32,
        "state_size": 16,
        "layer_norm_epsilon": 1e-5,
        "conv_kernel": 4,
        "n_groups": 2,
        "use_bias": False,
        "use_conv_bias": True,
        "tie_word_embeddings": True,
        "time_step_limit": [0.001, 100.0],
        "time_step_rank": "auto",
    },
    "falcon_h1": {
        **_MAMBA2,
        "mamba_d_ssm": 64,
        "lm_head_multiplier": 1.0,
        "ssm_in_multiplier": 1.0,
        "ssm_out_multiplier": 1.0,
        "ssm_multipliers": [1.0] * 5,
    },
    "nemotron_h": {
        "attention_bias": False,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "mamba_proj_bias": False,
        "ssm_state_size": 16,
        "conv_kernel": 4,
        "n_groups": 2,
        "mlp_bias": False,
        "layer_norm_epsilon": 1e-5,
        "use_bias": False,
        "use_conv_bias": True,
        "hybrid_override_pattern": ["M", "*", "M"],
    },
    "granitemoehybrid": {
        **GRANITE,
        **_MAMBA2,
        "layer_types": ["mamba", "attention"],
    },
}


RECURRENT: dict[str, Config] = {
    **{name: ARCHITECTURES[name] for name in ("qwen3_5", "qwen3_next")},
    **{
        model_type: {**COMMON, **particulars, "model_type": model_type}
        for model_type, particulars in _RECURRENT_PARTICULARS.items()
    },
}
"""Those whose layers pass a state from token to token."""

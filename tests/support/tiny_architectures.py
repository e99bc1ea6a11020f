"""The smallest configurations in which each family of models still has all that sets it apart."""

from __future__ import annotations

from typing import Any

VOCABULARY = 96

_Config = dict[str, Any]

_COMMON: _Config = {
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

_EXPERTS: _Config = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}

_LATENT_ATTENTION: _Config = {
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

_YARN: _Config = {
    "type": "yarn",
    "factor": 2.0,
    "original_max_position_embeddings": 64,
    "mscale": 0.7,
    "mscale_all_dim": 0.7,
    "beta_fast": 32,
    "beta_slow": 1,
}

_LINEAR_ATTENTION: _Config = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 1,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "partial_rotary_factor": 0.5,
}

_SLIDING_THEN_FULL = ["sliding_attention", "full_attention"]

_GRANITE: _Config = {
    "logits_scaling": 6.0,
    "attention_multiplier": 0.2,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "attention_bias": False,
    "mlp_bias": False,
}

_GEMMA3N: _Config = {
    **_COMMON,
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

_PARTICULARS: dict[str, _Config] = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {
        "tie_word_embeddings": False,
        "sliding_window": 8,
        "layer_types": _SLIDING_THEN_FULL,
    },
    "ministral3": {
        "rope_parameters": {
            "rope_theta": 10000.0,
            "rope_type": "default",
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 8,
        },
        "sliding_window": 8,
        "layer_types": _SLIDING_THEN_FULL,
    },
    "qwen2": {"head_dim": 16, "tie_word_embeddings": True},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": {"tie_word_embeddings": True},
    "qwen3_moe": {
        **_EXPERTS,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [],
        "tie_word_embeddings": False,
    },
    "qwen3_next": {
        **_EXPERTS,
        **_LINEAR_ATTENTION,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "shared_expert_intermediate_size": 32,
    },
    "qwen3_5": {
        **_LINEAR_ATTENTION,
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
    "granite": {**_GRANITE, "tie_word_embeddings": True},
    "granitemoe": {
        **_GRANITE,
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
    "olmo3": {"sliding_window": 8, "layer_types": _SLIDING_THEN_FULL},
    "olmoe": {**_EXPERTS, "intermediate_size": 32},
    "smollm3": {"no_rope_layer_interval": 2, "tie_word_embeddings": True},
    "deepseek_v2": {**_LATENT_ATTENTION, "topk_method": "greedy", "rope_scaling": _YARN},
    "deepseek_v3": {**_LATENT_ATTENTION, "routed_scaling_factor": 1.5},
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 8,
        "layer_types": _SLIDING_THEN_FULL,
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
        **_EXPERTS,
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

ARCHITECTURES: dict[str, _Config] = {
    model_type: {**_COMMON, "model_type": model_type, **particulars}
    for model_type, particulars in _PARTICULARS.items()
}
"""A model's config.json by its model_type."""

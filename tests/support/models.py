"""Tiny random models with a real tokenizer, in the architecture of each family; no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


CORPUS = [
    "system user assistant",
    "The capital of France is Paris. The capital of Italy is Rome.",
    "Turn on the lamp in the kitchen. Turn off the heating in the bedroom.",
    '{"action": "turn_on", "device": "lamp", "room": "kitchen"}',
]


def make_tiny_model(
    path: Path, *, seed: int = 0, chat_template: str | None = CHAT_TEMPLATE, **config: Any
) -> Path:
    """Write a loadable MLX model folder and return it; `config` overrides config.json's keys."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.token_to_id("<|im_start|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "torch_dtype": "float32",
        **config,
    }
    (path / "config.json").write_text(json.dumps(settings, indent=1))
    save_file(_weights(settings, seed), path / "model.safetensors", metadata={"format": "mlx"})
    tokenizer.save(str(path / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": settings["max_position_embeddings"],
    }
    if chat_template is not None:
        tokenizer_config["chat_template"] = chat_template
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=1))
    return path


def make_tiny_data(path: Path, *, train: int = 12, valid: int = 5) -> Path:
    """Write train.jsonl and, unless `valid` is 0, valid.jsonl of prompt-completion records."""
    path.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("valid", valid)):
        if count:
            lines = [json.dumps(record(number)) + "\n" for number in range(count)]
            (path / f"{name}.jsonl").write_text("".join(lines))
    return path


def record(number: int) -> dict[str, str]:
    """A prompt-completion record; lengths differ from number to number."""
    device = ("lamp", "heating", "radio in the corner")[number % 3]
    room = ("kitchen", "bedroom")[number % 2]
    extra = " please" * (number % 5)
    return {
        "prompt": f"Turn on the {device} in the {room}{extra}.",
        "completion": json.dumps({"action": "turn_on", "device": device, "room": room}),
    }


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Random weights of a llama in Hugging Face's names, rows as outputs."""
    random = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or width // heads

    def linear(outputs: int, inputs: int) -> np.ndarray:
        scale = 1 / np.sqrt(inputs)
        return random.normal(0, scale, (outputs, inputs)).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": linear(config["vocab_size"], width),
        "model.norm.weight": np.ones(width, np.float32),
    }
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = linear(config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        block = {
            "self_attn.q_proj": linear(heads * head, width),
            "self_attn.k_proj": linear(kv_heads * head, width),
            "self_attn.v_proj": linear(kv_heads * head, width),
            "self_attn.o_proj": linear(width, heads * head),
            "mlp.gate_proj": linear(inner, width),
            "mlp.up_proj": linear(inner, width),
            "mlp.down_proj": linear(width, inner),
            "input_layernorm": np.ones(width, np.float32),
            "post_attention_layernorm": np.ones(width, np.float32),
        }
        weights |= {f"model.layers.{layer}.{name}.weight": each for name, each in block.items()}
    return weights


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


_MAMBA: _Config = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_n_groups": 2,
    "mamba_proj_bias": False,
    "mamba_conv_bias": True,
}


_RECURRENT_PARTICULARS: dict[str, _Config] = {
    "qwen3_5_moe": {**ARCHITECTURES["qwen3_5"], **_EXPERTS, "shared_expert_intermediate_size": 32},
    "kimi_linear": {
        **_LATENT_ATTENTION,
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
        **_LINEAR_ATTENTION,
        "linear_allow_neg_eigval": True,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "mamba2": {
        "num_heads": 4,
        "head_dim": 16,
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
        **_MAMBA,
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
        **_GRANITE,
        **_MAMBA,
        "layer_types": ["mamba", "attention"],
    },
}


RECURRENT: dict[str, _Config] = {
    **{name: ARCHITECTURES[name] for name in ("qwen3_5", "qwen3_next")},
    **{
        model_type: {**_COMMON, **particulars, "model_type": model_type}
        for model_type, particulars in _RECURRENT_PARTICULARS.items()
    },
}
"""Those whose layers pass a state from token to token."""

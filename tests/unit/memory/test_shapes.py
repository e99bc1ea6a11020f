"""Shapes read from config.json, against mlx-lm's own models."""

import importlib
from typing import Any

import pytest

from mlxft.errors import ModelError
from mlxft.memory.families import FAMILIES
from mlxft.memory.shapes import ModelShapes
from support.more_architectures import FAMILIES as FAMILIES_OF_MLX_LM
from support.more_architectures import config_of

PLAIN = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "intermediate_size": 80,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "rope_theta": 10000.0,
    "head_dim": 12,
    "tie_word_embeddings": False,
    "attention_bias": False,
}
GRANITE = {
    "logits_scaling": 1.0,
    "attention_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "mlp_bias": False,
}
YARN = {"type": "yarn", "factor": 2.0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
}
GLM = {
    "norm_topk_prob": True,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.0,
    "rope_scaling": None,
    "partial_rotary_factor": 0.5,
}
DELTA_NET = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 3,
    "full_attention_interval": 2,
}
GEMMA4 = {
    "num_hidden_layers": 4,
    "global_head_dim": 16,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 60,
    "sliding_window": 16,
    "sliding_window_pattern": 2,
    "tie_word_embeddings": True,
}
SHORT_CONVOLUTION = {
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 48,
    "block_ff_dim": 100,
    "block_multiple_of": 16,
    "block_ffn_dim_multiplier": 1.5,
    "block_auto_adjust_ff_dim": False,
    "layer_types": ["conv", "full_attention", "conv"],
}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "llama, biases and its own head_dim": {
        "attention_bias": True,
        "mlp_bias": True,
        "head_dim": 16,
    },
    "llama, no kv heads named": {"num_key_value_heads": None, "head_dim": None},
    "mistral": {},
    "ministral3": {
        "rope_parameters": {
            "rope_theta": 1e4,
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 64,
        }
    },
    "iquestcoder": {},
    "xverse": {},
    "smollm3": {"tie_word_embeddings": True},
    "qwen2": {"tie_word_embeddings": True},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 40},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {
        **EXPERTS,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [0],
        "norm_topk_prob": True,
    },
    "phi": {"partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5},
    "phi3": {},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": {**GRANITE, "tie_word_embeddings": True},
    "granitemoe": {**GRANITE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo2": {},
    "olmo3": {"sliding_window": 16, "num_hidden_layers": 4},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "starcoder2": {"tie_word_embeddings": True},
    "stablelm": {
        "use_qkv_bias": True,
        "partial_rotary_factor": 0.5,
        "layer_norm_eps": 1e-5,
        "qk_layernorm": True,
    },
    "glm4": {"attention_bias": True, "partial_rotary_factor": 0.5},
    "cohere": {"use_qk_norm": True, "layer_norm_bias": True},
    "cohere2": {"sliding_window": 16},
    "seed_oss": {"attention_bias": True, "attention_out_bias": False},
    "ernie4_5": {"use_bias": True},
    "exaone4": {"rope_scaling": None, "sliding_window": 16, "sliding_window_pattern": "LLG"},
    "hunyuan_v1_dense": {
        "rope_scaling": {"alpha": 1.0, "factor": 1.0, "type": "dynamic"},
        "use_qk_norm": True,
    },
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 4,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "deepseek_v2": {**LATENT, "rope_scaling": YARN},
    "deepseek_v3": LATENT,
    "deepseek_v3, queries of full rank": {"q_lora_rank": None, "kv_lora_rank": 16},
    "joyai_llm_flash": {**LATENT},
    "kimi_k2": {**LATENT, "n_shared_experts": None, "attention_bias": True},
    "glm4_moe_lite": LATENT,
    "glm4_moe": {**LATENT, "use_qk_norm": True, "attention_bias": True, **GLM},
    "glm4_moe, without norms of queries": {**LATENT, "use_qk_norm": False, **GLM},
    "qwen3_next": {
        **EXPERTS,
        **DELTA_NET,
        "shared_expert_intermediate_size": 40,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [1],
        "num_hidden_layers": 4,
        "partial_rotary_factor": 0.5,
    },
    "qwen3_5": {**DELTA_NET, "tie_word_embeddings": True},
    "qwen3_5, a key for each value": {**DELTA_NET, "linear_num_key_heads": 4},
    "qwen3_5_moe": {**EXPERTS, **DELTA_NET, "shared_expert_intermediate_size": 40},
    "gemma4_text": GEMMA4,
    "gemma4_text, keys as values": {
        **GEMMA4,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
        "layer_types": ["full_attention", "sliding_attention"] * 2,
    },
    "gemma4_text, experts": {
        **GEMMA4,
        **EXPERTS,
        "enable_moe_block": True,
        "top_k_experts": 2,
        "use_double_wide_mlp": False,
    },
    "lfm2": {**SHORT_CONVOLUTION, "block_auto_adjust_ff_dim": True},
    "lfm2, biases and its own width": {
        **SHORT_CONVOLUTION,
        "conv_bias": True,
        "layer_types": None,
        "full_attn_idxs": [1],
        "block_ff_dim": None,
    },
    "lfm2_moe": {
        **EXPERTS,
        **SHORT_CONVOLUTION,
        "norm_topk_prob": True,
        "use_expert_bias": True,
        "num_dense_layers": 1,
    },
    "deepseek_v2, queries of full rank": {
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "rope_scaling": YARN,
    },
}


def case_config(case: str) -> dict[str, Any]:
    return {**PLAIN, **CONFIGS[case], "model_type": case.partition(",")[0]}


def mlx_model(config: dict[str, Any]) -> Any:
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    language = getattr(model, "language_model", model)
    if "gemma3" in config["model_type"]:
        language.sanitize({"model.embed_tokens.weight": None})  # its files have no head
    return model


def size(tree: Any) -> int:
    from mlx.utils import tree_flatten

    return sum(array.size for _, array in tree_flatten(tree))


@pytest.fixture(scope="module", autouse=True)
def _mlx() -> None:
    pytest.importorskip("mlx_lm")


class TestParameters:
    """The model's own counts, for every family listed."""

    @pytest.mark.parametrize("case", CONFIGS)
    def test_each_part_counts_as_in_mlx_lm(self, case: str) -> None:
        config = case_config(case)
        model, shapes = mlx_model(config), ModelShapes.from_config(config)
        assert shapes.known_family
        assert [each.parameters for each in shapes.blocks] == [
            size(layer.parameters()) for layer in model.layers
        ]
        assert shapes.parameters == size(model.parameters())

    @pytest.mark.parametrize("case", CONFIGS)
    def test_each_matrix_has_mlx_lms_name_and_shape(self, case: str) -> None:
        import mlx.nn as nn
        from mlx_lm.models.mla import MultiLinear
        from mlx_lm.models.switch_layers import SwitchLinear

        config = case_config(case)
        layers = mlx_model(config).layers
        for block, layer in zip(ModelShapes.from_config(config).blocks, layers, strict=True):
            theirs = {
                name: module.weight.shape[-2:]
                for name, module in layer.named_modules()
                if isinstance(module, nn.Linear | SwitchLinear | MultiLinear)
            }
            assert {each.name: (each.outputs, each.inputs) for each in block.matrices} == theirs

    def test_every_family_is_tested(self) -> None:
        assert {case.partition(",")[0] for case in CONFIGS} == set(FAMILIES)

    def test_a_nested_language_config_is_found(self) -> None:
        """gemma3 nests the language model under text_config and omits defaults."""
        inner = {
            "model_type": "gemma3_text",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "intermediate_size": 96,
        }
        config = {"model_type": "gemma3", "text_config": inner, "vocab_size": 100}
        shapes = ModelShapes.from_config(config)
        assert shapes.known_family
        assert shapes.parameters == size(mlx_model(config).parameters())

    @pytest.mark.parametrize("case", ["qwen3_5", "qwen3_5_moe", "gemma4"])
    def test_the_language_part_of_a_multimodal_model_is_counted(self, case: str) -> None:
        inner = case_config({"gemma4": "gemma4_text"}.get(case, case))
        inner["model_type"] = f"{case}_text"
        config = {"model_type": case, "text_config": inner, "vocab_size": 100}
        shapes = ModelShapes.from_config(config)
        assert shapes.known_family
        assert shapes.parameters == size(mlx_model(config).parameters())

    @pytest.mark.parametrize("inner", ["mistral4", "newcomer"])
    def test_a_wrapper_is_known_only_around_a_known_family(self, inner: str) -> None:
        config = {"model_type": "mistral3", "text_config": {**PLAIN, "model_type": inner}}
        assert not ModelShapes.from_config(config).known_family

    @pytest.mark.parametrize("inner", ["mistral", "ministral3", "mistral3_text"])
    def test_a_wrapper_around_a_known_family_is_known(self, inner: str) -> None:
        config = {"model_type": "mistral3", "text_config": {**PLAIN, "model_type": inner}}
        assert ModelShapes.from_config(config).known_family


class TestUnknownFamily:
    """A family that is not listed is assumed to have plain blocks, and is marked."""

    @pytest.mark.parametrize("family", [each for each in FAMILIES_OF_MLX_LM if each != "gemma3"])
    def test_every_config_is_read_and_known_ones_count_as_the_model(self, family: str) -> None:
        config = config_of(family)
        shapes = ModelShapes.from_config(config)
        assert shapes.blocks
        if shapes.known_family and family != "gemma3_text":  # Its files have no head.
            assert shapes.parameters == size(mlx_model(config).parameters())

    def test_a_config_of_another_kind_is_one_sentence(self) -> None:
        config = {**PLAIN, "model_type": "newcomer", "num_attention_heads": 4, "hidden_size": "x"}
        with pytest.raises(ModelError, match="memory can't be estimated"):
            ModelShapes.from_config(config)
        broken = {**PLAIN, "model_type": "qwen3_next", **DELTA_NET, "full_attention_interval": 0}
        with pytest.raises(
            ModelError, match=r"qwen3_next .* can't be read \(integer modulo by zero"
        ):
            ModelShapes.from_config(broken)

    @pytest.mark.parametrize(("key", "value"), [("hidden_size", 0), ("num_hidden_layers", 10**9)])
    def test_a_size_that_no_model_has_is_one_sentence(self, key: str, value: int) -> None:
        with pytest.raises(ModelError, match=f"can't be read \\({key} is {value}\\)"):
            ModelShapes.from_config({**case_config("llama"), key: value})

    def test_it_is_read_like_llama(self) -> None:
        shapes = ModelShapes.from_config({**PLAIN, "model_type": "newcomer"})
        assert not shapes.known_family
        assert shapes.parameters == ModelShapes.from_config(case_config("llama")).parameters

    def test_older_field_names_are_understood(self) -> None:
        config = {"model_type": "old", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 10}
        assert len(ModelShapes.from_config(config).blocks) == 2

    def test_the_first_missing_field_is_named(self) -> None:
        with pytest.raises(ModelError, match="hidden_size"):
            ModelShapes.from_config({"model_type": "bert-like"})


class TestQuantization:
    """Bytes on disk are those of a quantized model."""

    @staticmethod
    def quantized(case: str, quantization: dict[str, Any]) -> tuple[Any, ModelShapes]:
        import mlx.core as mx
        import mlx.nn as nn
        from mlx.utils import tree_map

        config = {**case_config(case), **WIDE, "quantization": quantization}
        model = mlx_model(config)
        model.update(tree_map(lambda array: array.astype(mx.bfloat16), model.parameters()))

        def chosen(path: str, module: Any) -> Any:
            return hasattr(module, "to_quantized") and quantization.get(path, True)

        group_size, bits = quantization["group_size"], quantization["bits"]
        mode = quantization.get("mode", "affine")
        nn.quantize(model, group_size, bits, mode=mode, class_predicate=chosen)
        return model, ModelShapes.from_config(config)

    @pytest.mark.parametrize(
        "quantization",
        [
            {"group_size": 64, "bits": 4},
            {"group_size": 32, "bits": 8},
            {"group_size": 64, "bits": 6},
            {"group_size": 64, "bits": 3},
            {"group_size": 32, "bits": 4, "mode": "mxfp4"},
        ],
    )
    @pytest.mark.parametrize(
        "case", ["llama", "qwen2", "mixtral", "qwen3_5", "deepseek_v3", "gemma4_text"]
    )
    def test_bytes_are_those_of_mlx(self, case: str, quantization: dict[str, Any]) -> None:
        from mlx.utils import tree_flatten

        model, shapes = self.quantized(case, quantization)
        assert shapes.stored_bytes == sum(
            array.nbytes for _, array in tree_flatten(model.parameters())
        )
        assert shapes.bits == quantization["bits"]

    def test_a_matrix_may_have_its_own_bits_or_none(self) -> None:
        from mlx.utils import tree_flatten

        mixed: dict[str, Any] = {
            "group_size": 64,
            "bits": 4,
            "model.layers.1.mlp.down_proj": {"group_size": 64, "bits": 8},
            "model.layers.0.self_attn.q_proj": False,
            "lm_head": {"group_size": 32, "bits": 6},
        }
        model, shapes = self.quantized("llama", mixed)
        assert shapes.stored_bytes == sum(
            array.nbytes for _, array in tree_flatten(model.parameters())
        )
        assert shapes.bits == 4

    @pytest.mark.parametrize(
        "quantization",
        [
            {"group_size": 64, "bits": 4, "model.layers.0.self_attn.q_proj": True},
            {"group_size": 64, "bits": 4, "model.layers.0.self_attn.q_proj": None},
            {"group_size": 64, "bits": 4, "model.embed_tokens": {"group_size": None, "bits": 2}},
            {"group_size": 32, "bits": 4, "mode": "mxfp4", "lm_head": {"bits": 8}},
            {"group_size": 32, "bits": 4, "lm_head": {"mode": "mxfp8"}},
        ],
    )
    def test_true_null_and_missing_keys_are_read_as_mlx_reads_them(
        self, quantization: dict[str, Any]
    ) -> None:
        from mlx.utils import tree_flatten

        model, shapes = self.quantized("llama", quantization)
        assert shapes.stored_bytes == sum(
            array.nbytes for _, array in tree_flatten(model.parameters())
        )


WIDE = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "head_dim": 32,
    "global_head_dim": 32,
    "linear_value_head_dim": 32,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 64,
    "v_head_dim": 32,
    "moe_intermediate_size": 64,
    "hidden_size_per_layer_input": 64,
}


def test_reading_needs_no_mlx() -> None:
    """The estimator works before any engine has started."""
    module = importlib.import_module("mlxft.memory.shapes")
    assert not any(name.startswith("mlx.") for name in vars(module))

"""How each model family builds its blocks, with mlx-lm's names.

Other families are assumed to have plain blocks, and are marked as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Final, Literal

from mlxft.memory.blocks import Block
from mlxft.memory.config import Config
from mlxft.memory.parts import (
    EXACT_GEGLU,
    GEGLU,
    OTHERS,
    BlockPart,
    attention,
    block,
    delta_net,
    experts,
    fused_gated,
    gated,
    latent_attention,
    linear,
    plain,
    short_convolution,
    state_space,
)

Tied = Literal["always", "never", "by default", "on request"]

Blocks = Callable[[Config, int], Block]


@dataclass(frozen=True)
class Family:
    """How a family builds its blocks, and whether its head is tied to the embedding.

    `extra` is everything but blocks, embedding and head.
    """

    block: Blocks
    _: KW_ONLY
    tied: Tied = "by default"
    norm_bias: bool | str = False
    head_bias: bool = False
    extra: Callable[[Config], BlockPart] = lambda _: BlockPart(())
    known: bool = True

    def is_tied(self, c: Config) -> bool:
        """Whether the head is tied to the embedding."""
        match self.tied:
            case "always":
                return True
            case "never":
                return False
            case "by default":
                return c.flag("tie_word_embeddings", True)
            case "on request":
                return c.flag("tie_word_embeddings", False)

    def has_norm_bias(self, c: Config) -> bool:
        """Whether the final norm has a bias."""
        return c.flag(self.norm_bias) if isinstance(self.norm_bias, str) else self.norm_bias


def _llama(c: Config, _: int) -> Block:
    return block(c, attention(c, bias=c.flag("attention_bias")), gated(c, bias=c.flag("mlp_bias")))


def _qwen2(c: Config, _: int) -> Block:
    return block(c, attention(c, bias=True, out_bias=False, even=True), gated(c))


def _qwen2_moe(c: Config, _: int) -> Block:
    return block(c, attention(c, bias=True, out_bias=False, even=True), *_with_shared_expert(c))


def _with_shared_expert(c: Config) -> list[BlockPart]:
    return [
        experts(
            c,
            path="mlp.switch_mlp",
            router="mlp.gate",
            width=c.number("moe_intermediate_size"),
        ),
        gated(c, path="mlp.shared_expert", width=c.number("shared_expert_intermediate_size")),
        BlockPart((linear("mlp.shared_expert_gate", 1, c.hidden),)),
    ]


def _qwen3(c: Config, _: int) -> Block:
    return block(c, attention(c, norms="head"), gated(c))


def _qwen3_moe(c: Config, at: int) -> Block:
    sparse = at not in c.numbers("mlp_only_layers") and (
        (at + 1) % c.number("decoder_sparse_step", 1) == 0
    )
    mixture = (
        experts(
            c,
            path="mlp.switch_mlp",
            router="mlp.gate",
            width=c.number("moe_intermediate_size"),
        )
        if sparse
        else gated(c)
    )
    return block(c, attention(c, norms="head"), mixture)


def _phi(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=True, out="dense", even=True),
        plain(c, "fc1", "fc2"),
        norms=1,
        norm_bias=True,
    )


def _phi3(c: Config, _: int) -> Block:
    return block(c, attention(c, even=True, fused=True), fused_gated(c))


def _unbiased(c: Config, _: int) -> Block:
    return block(c, attention(c), gated(c))


def _gemma(c: Config, _: int) -> Block:
    return block(c, attention(c), gated(c, kept=EXACT_GEGLU))


def _gemma2(c: Config, _: int) -> Block:
    return block(c, attention(c), gated(c, kept=GEGLU), norms=4, fused_attention=False)


def _gemma3(c: Config, _: int) -> Block:
    return block(c, attention(c, norms="head"), gated(c, kept=GEGLU), norms=4)


def _mixtral(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, even=True),
        experts(
            c,
            path="block_sparse_moe.switch_mlp",
            router="block_sparse_moe.gate",
            width=c.number("intermediate_size"),
        ),
    )


def _granite(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), even=True),
        gated(c, bias=c.flag("mlp_bias")),
    )


def _granitemoe(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), even=True),
        experts(
            c,
            path="block_sparse_moe.switch_mlp",
            router="block_sparse_moe.router.layer",
            width=c.number("intermediate_size"),
        ),
    )


def _olmo2(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), norms="whole"),
        gated(c, bias=c.flag("mlp_bias")),
    )


def _olmoe(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), norms="whole"),
        experts(
            c,
            path="mlp.switch_mlp",
            router="mlp.gate",
            width=c.number("intermediate_size"),
        ),
    )


def _starcoder2(c: Config, _: int) -> Block:
    return block(c, attention(c, bias=True, even=True), plain(c, "c_fc", "c_proj"), norm_bias=True)


def _stablelm(c: Config, _: int) -> Block:
    per_head = (c.heads + c.kv_heads) * c.even_head_dim if c.flag("qk_layernorm") else 0
    return block(
        c,
        attention(c, bias=c.flag("use_qkv_bias"), out_bias=False, even=True),
        gated(c),
        norms=1 if c.flag("use_parallel_residual") else 2,
        norm_bias=True,
        vectors=per_head,
    )


def _glm4(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), out_bias=False),
        fused_gated(c),
        norms=4,
    )


def _cohere(c: Config, _: int) -> Block:
    per_head = (c.heads + c.kv_heads) * c.even_head_dim if c.flag("use_qk_norm") else 0
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), even=True),
        gated(c),
        norms=1,
        norm_bias=c.flag("layer_norm_bias"),
        vectors=per_head,
    )


def _seed_oss(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), out_bias=c.flag("attention_out_bias")),
        gated(c, bias=c.flag("mlp_bias")),
    )


def _ernie4_5(c: Config, _: int) -> Block:
    bias = c.flag("use_bias")
    return block(c, attention(c, bias=bias), gated(c, bias=bias))


def _hunyuan(c: Config, _: int) -> Block:
    norms: Literal["head", "none"] = "head" if c.flag("use_qk_norm", True) else "none"
    return block(c, attention(c, bias=c.flag("attention_bias"), norms=norms), gated(c))


def _gpt_oss(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=True),
        experts(
            c,
            path="mlp.experts",
            router="mlp.router",
            width=c.number("intermediate_size"),
            bias=True,
            kept=OTHERS,
        ),
        vectors=c.heads,
    )


def _deepseek_v2(c: Config, at: int) -> Block:
    if not _is_routed(c, at):
        return block(c, latent_attention(c), gated(c))
    width, shared = c.number("moe_intermediate_size"), c.number("n_shared_experts", 0)
    return block(
        c,
        latent_attention(c),
        experts(c, path="mlp.switch_mlp", router=None, width=width),
        *([gated(c, path="mlp.shared_experts", width=width * shared)] if shared else []),
        vectors=c.number("n_routed_experts") * c.hidden,
    )


def _routed(c: Config) -> list[BlockPart]:
    """Experts with a correction per expert in the router, and shared experts."""
    width, shared = c.number("moe_intermediate_size"), c.number("n_shared_experts", 0)
    count = c.number("n_routed_experts")
    return [
        experts(c, path="mlp.switch_mlp", router=None, width=width),
        *([gated(c, path="mlp.shared_experts", width=width * shared)] if shared else []),
        BlockPart((), vectors=count * (c.hidden + 1)),
    ]


def _is_routed(c: Config, at: int) -> bool:
    return (
        c.number("n_routed_experts", 0) > 0
        and at >= c.number("first_k_dense_replace", 0)
        and at % c.number("moe_layer_freq", 1) == 0
    )


def _deepseek_v3(c: Config, at: int) -> Block:
    """The positional part of the scores is passed as a mask, so attention is not fused."""
    mixture = _routed(c) if _is_routed(c, at) else [gated(c)]
    return block(c, latent_attention(c, absorbed=True), *mixture, fused_attention=False)


def _glm4_moe(c: Config, at: int) -> Block:
    routed = c.number("n_routed_experts", 0) > 0 and at >= c.number("first_k_dense_replace")
    norms: Literal["head", "none"] = "head" if c.flag("use_qk_norm") else "none"
    return block(
        c,
        attention(c, bias=c.flag("attention_bias"), out_bias=False, norms=norms),
        *(_routed(c) if routed else [gated(c)]),
    )


def _qwen3_next(c: Config, at: int) -> Block:
    sparse = at not in c.numbers("mlp_only_layers") and (
        c.number("num_experts", 0) > 0 and (at + 1) % c.number("decoder_sparse_step", 1) == 0
    )
    return _qwen_hybrid(c, at, delta_net(c, fused=True), sparse)


def _qwen3_5(c: Config, at: int) -> Block:
    return _qwen_hybrid(c, at, delta_net(c), sparse=c.number("num_experts", 0) > 0)


def _qwen_hybrid(c: Config, at: int, recurrence: BlockPart, sparse: bool) -> Block:
    recurs = (at + 1) % c.number("full_attention_interval", 4) != 0
    mixture = _with_shared_expert(c) if sparse else [gated(c)]
    full = attention(c, bias=c.flag("attention_bias"), norms="head", gate=True)
    return block(c, recurrence if recurs else full, *mixture)


def _lfm2(c: Config, at: int) -> Block:
    wide = c.number("block_ff_dim", c.number("intermediate_size", 0))
    if c.flag("block_auto_adjust_ff_dim"):
        multiple = c.number("block_multiple_of")
        wide = int(c.real("block_ffn_dim_multiplier", 1.0) * int(2 * wide / 3))
        wide = multiple * ((wide + multiple - 1) // multiple)
    mlp = gated(c, path="feed_forward", width=wide, names=("w1", "w2", "w3"))
    return block(c, _lfm2_operator(c, at), mlp)


def _lfm2_moe(c: Config, at: int) -> Block:
    mixture = [gated(c, path="feed_forward")]
    if at >= c.number("num_dense_layers"):
        mixture = [
            experts(
                c,
                path="feed_forward.switch_mlp",
                router="feed_forward.gate",
                width=c.number("moe_intermediate_size"),
            ),
            BlockPart((), vectors=c.number("num_experts") if c.flag("use_expert_bias") else 0),
        ]
    return block(c, _lfm2_operator(c, at), *mixture)


def _lfm2_operator(c: Config, at: int) -> BlockPart:
    full = c.numbers("full_attn_idxs") or [
        index for index, kind in enumerate(c.names("layer_types")) if kind == "full_attention"
    ]
    if at in full:
        return attention(c, even=True, out="out_proj", norms="head")
    return short_convolution(c)


def _gemma4(c: Config, at: int) -> Block:
    """The last blocks reuse keys and values of earlier ones and have an MLP twice as wide."""
    full = _gemma4_kinds(c)[at] == "full_attention"
    takes = at >= c.number("num_hidden_layers") - c.number("num_kv_shared_layers", 20)
    alike = full and c.flag("attention_k_eq_v")
    size = c.number("global_head_dim", 512) if full else c.head_dim
    kv_heads = c.number("num_global_key_value_heads", c.kv_heads) if alike else c.kv_heads
    q, kv = c.heads * size, 0 if takes else kv_heads * size
    into = {"q_proj": q, **({"k_proj": kv} if kv else {})}
    if kv and not alike:
        into["v_proj"] = kv
    heads = BlockPart(
        (
            *(
                linear(f"self_attn.{name}", outputs, c.hidden, reads="attention")
                for name, outputs in into.items()
            ),
            linear("self_attn.o_proj", c.hidden, q),
        ),
        vectors=size * (2 if kv else 1),
        width=round(3.5 * q + 4 * kv),
        heads=c.heads,
    )
    doubled = takes and c.flag("use_double_wide_mlp", True)
    wide = (2 if doubled else 1) * c.number("intermediate_size")
    inputs, mixture = _gemma4_inputs(c), _gemma4_experts(c)
    return block(
        c,
        heads,
        gated(c, width=wide, kept=GEGLU),
        *mixture,
        *inputs,
        norms=4 + (3 if mixture else 0) + (1 if inputs else 0),
        vectors=1,
    )


def _gemma4_kinds(c: Config) -> list[str]:
    every = c.number("sliding_window_pattern", 5)
    return c.names("layer_types") or [
        "sliding_attention" if (at + 1) % every else "full_attention"
        for at in range(c.number("num_hidden_layers"))
    ]


def _gemma4_experts(c: Config) -> list[BlockPart]:
    if not c.flag("enable_moe_block"):
        return []
    mixture = experts(
        c,
        path="experts.switch_glu",
        router="router.proj",
        width=c.number("moe_intermediate_size"),
        active=c.number("top_k_experts"),
        kept=GEGLU,
    )
    return [mixture, BlockPart((), vectors=c.hidden + c.number("num_experts"), width=2 * c.hidden)]


def _gemma4_inputs(c: Config) -> list[BlockPart]:
    """The block's own embedding of each token."""
    size = c.number("hidden_size_per_layer_input", 256)
    matrices = (
        linear("per_layer_input_gate", size, c.hidden),
        linear("per_layer_projection", c.hidden, size),
    )
    return [BlockPart(matrices, width=10 * size)] if size else []


def _gemma4_extra(c: Config) -> BlockPart:
    size = c.number("hidden_size_per_layer_input", 256)
    every = size * c.number("num_hidden_layers")
    matrices = (
        linear("embed_tokens_per_layer", c.number("vocab_size_per_layer_input", 262144), every),
        linear("per_layer_model_projection", every, c.hidden),
    )
    return BlockPart(matrices if size else (), vectors=size)


def _unknown(c: Config, at: int) -> Block:
    """A guess: attention or a recurrence, as often as config.json says that blocks are passed."""
    if not c.number("num_attention_heads", 0) or c.number("time_step_rank", 0):
        return block(c, state_space(c), norms=1)
    heads = latent_attention(c, absorbed=True) if c.number("kv_lora_rank", 0) else attention(c)
    found = block(c, heads, *_mixture(c, at))
    passes = max(1, c.number("num_loops", 1), c.number("loop_num", 1))
    return replace(found, width=passes * found.width, routed=passes * found.routed)


def _mixture(c: Config, at: int) -> list[BlockPart]:
    """A guess at a block's experts, or at its MLP."""
    wide = c.number("intermediate_size", 4 * c.hidden)
    if c.number("num_experts", 0) <= 1 or at < c.number("first_k_dense_replace", 0):
        return [gated(c, width=wide)]
    width = c.number("moe_intermediate_size", wide)
    shared = c.number("n_shared_experts", c.number("num_shared_experts", 0))
    mixture = experts(c, path="mlp.switch_mlp", router="mlp.gate", width=width)
    return [mixture, gated(c, path="mlp.shared_experts", width=width * shared)][: 1 + bool(shared)]


FAMILIES: Final[dict[str, Family]] = {
    "llama": Family(_llama),
    "mistral": Family(_llama),
    "ministral3": Family(_unbiased),
    "iquestcoder": Family(_llama),
    "xverse": Family(_llama),
    "smollm3": Family(_llama),
    "qwen2": Family(_qwen2),
    "qwen2_moe": Family(_qwen2_moe, tied="never"),
    "qwen3": Family(_qwen3, tied="on request"),
    "qwen3_moe": Family(_qwen3_moe, tied="on request"),
    "phi": Family(_phi, tied="never", norm_bias=True, head_bias=True),
    "phi3": Family(_phi3, tied="on request"),
    "gemma": Family(_gemma, tied="always"),
    "gemma2": Family(_gemma2, tied="always"),
    "gemma3_text": Family(_gemma3, tied="always"),
    "mixtral": Family(_mixtral, tied="on request"),
    "granite": Family(_granite),
    "granitemoe": Family(_granitemoe),
    "olmo2": Family(_olmo2),
    "olmo3": Family(_olmo2, tied="on request"),
    "olmoe": Family(_olmoe),
    "starcoder2": Family(_starcoder2, norm_bias=True),
    "stablelm": Family(_stablelm, tied="never", norm_bias=True),
    "glm4": Family(_glm4, tied="never"),
    "cohere": Family(_cohere, tied="always", norm_bias="layer_norm_bias"),
    "cohere2": Family(_cohere, tied="always", norm_bias="layer_norm_bias"),
    "seed_oss": Family(_seed_oss),
    "ernie4_5": Family(_ernie4_5, tied="on request"),
    "exaone4": Family(_qwen3, tied="on request"),
    "hunyuan_v1_dense": Family(_hunyuan, tied="on request"),
    "gpt_oss": Family(_gpt_oss, tied="never"),
    "deepseek_v2": Family(_deepseek_v2, tied="never"),
    "deepseek_v3": Family(_deepseek_v3, tied="never"),
    "kimi_k2": Family(_deepseek_v3, tied="never"),
    "joyai_llm_flash": Family(_deepseek_v3, tied="never"),
    "glm4_moe": Family(_glm4_moe, tied="never"),
    "glm4_moe_lite": Family(_deepseek_v3, tied="never"),
    "qwen3_next": Family(_qwen3_next, tied="on request"),
    "qwen3_5": Family(_qwen3_5, tied="on request"),
    "qwen3_5_moe": Family(_qwen3_5, tied="on request"),
    "gemma4_text": Family(_gemma4, extra=_gemma4_extra),
    "lfm2": Family(_lfm2, tied="always"),
    "lfm2_moe": Family(_lfm2_moe, tied="always"),
}
"""Families whose parameters are counted exactly."""

_UNKNOWN: Final = Family(_unknown, tied="on request", known=False)

_WRAPPERS: Final = {
    # Multimodal models whose language part has no model_type of its own.
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_text",
    "mistral3": "mistral",
    "pixtral": "mistral",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "lfm2-vl": "lfm2",
    "kimi_vl": "deepseek_v3",
    "kimi_k25": "deepseek_v3",
    "llava": "mistral",
}

_GEMMA3_DEFAULTS: Final = {
    "hidden_size": 1152,
    "num_hidden_layers": 26,
    "intermediate_size": 6912,
    "head_dim": 256,
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
"""Values that Google's configs omit."""

_GEMMA4_DEFAULTS: Final = {
    "hidden_size": 1536,
    "num_hidden_layers": 35,
    "intermediate_size": 6144,
    "head_dim": 256,
    "vocab_size": 262144,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}


def family_of(config: Mapping[str, Any]) -> tuple[str, Family, Config]:
    """A model's family with its name, and the language model's part of its config.json."""
    model_type = str(config.get("model_type", ""))
    inner = config.get("text_config")
    language = _language_part(config, inner, model_type) if isinstance(inner, Mapping) else config
    own = str(language.get("model_type", model_type))
    # Qwen3-VL's language model is a qwen3_vl_text, but Mistral 3 may hold any other family.
    is_wrappers_own = own.startswith(model_type)
    name = _WRAPPERS.get(model_type, model_type) if is_wrappers_own and own not in FAMILIES else own
    return name, FAMILIES.get(name, _UNKNOWN), Config(_flat(language))


def _flat(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with the values that DBRX nests by part."""
    nested = (config.get(name) for name in ("ffn_config", "attn_config"))
    merged = dict(config)
    for each in nested:
        merged |= each if isinstance(each, Mapping) else {}
    return merged


def _language_part(
    config: Mapping[str, Any], inner: Mapping[str, Any], model_type: str
) -> Mapping[str, Any]:
    """The nested language config, with the keys that it leaves to the outer one."""
    outer = {
        key: config[key]
        for key in ("vocab_size", "tie_word_embeddings", "torch_dtype", "dtype")
        if key in config
    }
    if model_type.startswith("gemma4"):
        return {**_GEMMA4_DEFAULTS, **outer, **inner}
    if model_type == "gemma3":
        return {**_GEMMA3_DEFAULTS, **outer, **inner}
    if model_type in ("mistral3", "pixtral", "llava"):
        return {"tie_word_embeddings": False, **outer, **inner}
    return {**outer, **inner}

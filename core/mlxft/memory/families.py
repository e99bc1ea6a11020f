"""How each model family builds its blocks, in mlx-lm's names.

A family that is not listed is read as plain blocks, and its shapes say that they are not sure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from mlxft.errors import ModelError
from mlxft.memory.blocks import Block, Matrix

Tied = Literal["always", "never", "unless told", "if told"]

_ALIASES: Final = {
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": ("n_kv_heads", "num_kv_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "hidden_dim"),
    "num_experts": ("num_local_experts", "n_routed_experts"),
}
"""Other names of the same number, for families that are not listed."""


class Config:
    """A config.json's language part, with its numbers checked as they are asked for."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self._mapping = mapping

    def number(self, key: str, default: int | None = None) -> int:
        """A count under its own or another name. Raises `ModelError` without a default."""
        for name in (key, *_ALIASES.get(key, ())):
            value = self._mapping.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        if default is None:
            raise ModelError(
                f"config.json: {key} is missing or not a number; "
                "this folder does not hold a language model."
            )
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        """A yes or no; null is the default."""
        value = self._mapping.get(key)
        return default if value is None else bool(value)

    def text(self, key: str) -> str:
        """A name, or nothing."""
        value = self._mapping.get(key)
        return value if isinstance(value, str) else ""

    def numbers(self, key: str) -> list[int]:
        """A list of counts, or none."""
        value = self._mapping.get(key)
        return value if isinstance(value, list) else []

    @property
    def hidden(self) -> int:
        return self.number("hidden_size")

    @property
    def heads(self) -> int:
        return self.number("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        return self.number("num_key_value_heads", self.heads)

    @property
    def even_head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def head_dim(self) -> int:
        return self.number("head_dim", self.even_head_dim)


Blocks = Callable[[Config, int], Block]


@dataclass(frozen=True)
class Family:
    """How a family's blocks are built, and whether its head is the embedding."""

    block: Blocks
    tied: Tied = "unless told"
    norm_bias: bool | str = False
    head_bias: bool = False
    known: bool = True

    def is_tied(self, c: Config) -> bool:
        """Whether the embedding serves as the head."""
        match self.tied:
            case "always":
                return True
            case "never":
                return False
            case "unless told":
                return c.flag("tie_word_embeddings", True)
            case "if told":
                return c.flag("tie_word_embeddings", False)

    def has_norm_bias(self, c: Config) -> bool:
        """Whether the last norm has biases."""
        return c.flag(self.norm_bias) if isinstance(self.norm_bias, str) else self.norm_bias


@dataclass(frozen=True)
class Part:
    """One part of a block: its matrices, other parameters, and the values it keeps of a token."""

    matrices: tuple[Matrix, ...]
    vectors: int = 0
    width: int = 0


SILU: Final = 5
"""What a gated MLP keeps, in its inner width: both inputs, sigmoid, SiLU and product."""

GELU: Final = 6.5
"""The same with the tanh approximation of a GELU."""


def attention(
    c: Config,
    *,
    bias: bool = False,
    out_bias: bool | None = None,
    out: str = "o_proj",
    even: bool = False,
    fused: bool = False,
    norms: Literal["none", "head", "whole"] = "none",
) -> Part:
    """Grouped-query attention; `out_bias` follows `bias`, `even` ignores config's head_dim."""
    size = c.even_head_dim if even else c.head_dim
    q, kv = c.heads * size, c.kv_heads * size
    projections = {"qkv_proj": q + 2 * kv} if fused else {"q_proj": q, "k_proj": kv, "v_proj": kv}
    into = (
        _linear(f"self_attn.{name}", outputs, c.hidden, bias, reads="attention")
        for name, outputs in projections.items()
    )
    last = _linear(f"self_attn.{out}", c.hidden, q, bias if out_bias is None else out_bias)
    return Part(
        (*into, last),
        vectors={"none": 0, "head": 2 * size, "whole": q + kv}[norms],
        width=2 * (q + kv) + (0 if norms == "none" else round(1.5 * (q + kv))),
    )


def latent_attention(c: Config) -> Part:
    """DeepSeek's attention through a low-rank latent."""
    rope, nope = c.number("qk_rope_head_dim", 64), c.number("qk_nope_head_dim", 128)
    value, latent = c.number("v_head_dim", 128), c.number("kv_lora_rank", 512)
    rank, bias = c.number("q_lora_rank", 0), c.flag("attention_bias")
    q, v = c.heads * (rope + nope), c.heads * value
    queries = (
        (
            _linear("self_attn.q_a_proj", rank, c.hidden, bias, reads="attention"),
            _linear("self_attn.q_b_proj", q, rank),
        )
        if rank
        else (_linear("self_attn.q_proj", q, c.hidden, reads="attention"),)
    )
    return Part(
        (
            *queries,
            _linear(
                "self_attn.kv_a_proj_with_mqa", latent + rope, c.hidden, bias, reads="attention"
            ),
            _linear("self_attn.kv_b_proj", c.heads * (nope + value), latent),
            _linear("self_attn.o_proj", c.hidden, v, bias),
        ),
        vectors=rank + latent,
        width=2 * (rank + latent) + 3 * q + 2 * v,
    )


def gated(
    c: Config,
    *,
    path: str = "mlp",
    width: int | None = None,
    bias: bool = False,
    kept: float = SILU,
) -> Part:
    """A gated MLP of three matrices."""
    wide = c.number("intermediate_size") if width is None else width
    return Part(
        (
            _linear(f"{path}.gate_proj", wide, c.hidden, bias, reads="mlp"),
            _linear(f"{path}.down_proj", c.hidden, wide, bias),
            _linear(f"{path}.up_proj", wide, c.hidden, bias, reads="mlp"),
        ),
        width=round(kept * wide),
    )


def fused_gated(c: Config) -> Part:
    """A gated MLP with gate and up in one matrix."""
    wide = c.number("intermediate_size")
    return Part(
        (
            _linear("mlp.gate_up_proj", 2 * wide, c.hidden),
            _linear("mlp.down_proj", c.hidden, wide),
        ),
        width=SILU * wide,
    )


def plain(c: Config, first: str, second: str) -> Part:
    """An MLP of two matrices with biases and a GELU between them."""
    wide = c.number("intermediate_size", 4 * c.hidden)
    return Part(
        (
            _linear(f"mlp.{first}", wide, c.hidden, True),
            _linear(f"mlp.{second}", c.hidden, wide, True),
        ),
        width=SILU * wide,
    )


def experts(
    c: Config,
    *,
    path: str,
    router: str | None,
    width: int,
    bias: bool = False,
) -> Part:
    """A gated MLP for each expert, and the router where it is a linear layer.

    A token's values are copied and sorted once for each expert it passes through, and so are the
    results.
    """
    count, active = c.number("num_experts"), c.number("num_experts_per_tok", 1)

    def switch(name: str, outputs: int, inputs: int, reads: str) -> Matrix:
        return Matrix(f"{path}.{name}", outputs, inputs, bias, count, active, reads)

    routers = (_linear(router, count, c.hidden, bias, reads="mlp"),) if router else ()
    return Part(
        (
            switch("gate_proj", width, c.hidden, "gathered"),
            switch("up_proj", width, c.hidden, "gathered"),
            switch("down_proj", c.hidden, width, "inner"),
            *routers,
        ),
        width=active * (SILU * width + 3 * c.hidden),
    )


def block(
    c: Config,
    *parts: Part,
    norms: int = 2,
    norm_bias: bool = False,
    vectors: int = 0,
    fused_attention: bool = True,
) -> Block:
    """A block of its parts, with so many norms of the model's width."""
    norm = c.hidden * (2 if norm_bias else 1)
    return Block(
        matrices=tuple(each for part in parts for each in part.matrices),
        vectors=norms * norm + vectors + sum(part.vectors for part in parts),
        heads=c.heads,
        width=2 * norms * c.hidden + sum(part.width for part in parts),
        fused_attention=fused_attention,
    )


def _linear(name: str, outputs: int, inputs: int, bias: bool = False, reads: str = "") -> Matrix:
    """A plain matrix; it reads values of its own unless told otherwise."""
    return Matrix(name, outputs, inputs, bias, reads=reads or name)


def _llama(c: Config, _: int) -> Block:
    return block(c, attention(c, bias=c.flag("attention_bias")), gated(c, bias=c.flag("mlp_bias")))


def _qwen2(c: Config, _: int) -> Block:
    return block(c, attention(c, bias=True, out_bias=False, even=True), gated(c))


def _qwen2_moe(c: Config, _: int) -> Block:
    return block(
        c,
        attention(c, bias=True, out_bias=False, even=True),
        experts(
            c,
            path="mlp.switch_mlp",
            router="mlp.gate",
            width=c.number("moe_intermediate_size"),
        ),
        gated(c, path="mlp.shared_expert", width=c.number("shared_expert_intermediate_size")),
        Part((_linear("mlp.shared_expert_gate", 1, c.hidden),)),
    )


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
    return block(c, attention(c), gated(c, kept=GELU))


def _gemma2(c: Config, _: int) -> Block:
    return block(c, attention(c), gated(c, kept=GELU), norms=4, fused_attention=False)


def _gemma3(c: Config, _: int) -> Block:
    return block(c, attention(c, norms="head"), gated(c, kept=GELU), norms=4)


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
        ),
        vectors=c.heads,
    )


def _deepseek_v2(c: Config, at: int) -> Block:
    sparse = (
        c.number("n_routed_experts", 0) > 0
        and at >= c.number("first_k_dense_replace", 0)
        and at % c.number("moe_layer_freq", 1) == 0
    )
    if not sparse:
        return block(c, latent_attention(c), gated(c))
    width, shared = c.number("moe_intermediate_size"), c.number("n_shared_experts", 0)
    return block(
        c,
        latent_attention(c),
        experts(c, path="mlp.switch_mlp", router=None, width=width),
        *([gated(c, path="mlp.shared_experts", width=width * shared)] if shared else []),
        vectors=c.number("n_routed_experts") * c.hidden,
    )


def _unknown(c: Config, _: int) -> Block:
    if c.number("num_experts", 0) > 1:
        width = c.number("moe_intermediate_size", c.number("intermediate_size", 0))
        mixture = experts(c, path="mlp.switch_mlp", router="mlp.gate", width=width)
    else:
        mixture = gated(c, width=c.number("intermediate_size", 4 * c.hidden))
    return block(c, attention(c, bias=c.flag("attention_bias")), mixture)


FAMILIES: Final[dict[str, Family]] = {
    "llama": Family(_llama),
    "mistral": Family(_llama),
    "ministral3": Family(_unbiased),
    "iquestcoder": Family(_llama),
    "xverse": Family(_llama),
    "smollm3": Family(_llama),
    "qwen2": Family(_qwen2),
    "qwen2_moe": Family(_qwen2_moe, tied="never"),
    "qwen3": Family(_qwen3, tied="if told"),
    "qwen3_moe": Family(_qwen3_moe, tied="if told"),
    "phi": Family(_phi, tied="never", norm_bias=True, head_bias=True),
    "phi3": Family(_phi3, tied="if told"),
    "gemma": Family(_gemma, tied="always"),
    "gemma2": Family(_gemma2, tied="always"),
    "gemma3_text": Family(_gemma3, tied="always"),
    "mixtral": Family(_mixtral, tied="if told"),
    "granite": Family(_granite),
    "granitemoe": Family(_granitemoe),
    "olmo2": Family(_olmo2),
    "olmo3": Family(_olmo2, tied="if told"),
    "olmoe": Family(_olmoe),
    "starcoder2": Family(_starcoder2, norm_bias=True),
    "stablelm": Family(_stablelm, tied="never", norm_bias=True),
    "glm4": Family(_glm4, tied="never"),
    "cohere": Family(_cohere, tied="always", norm_bias="layer_norm_bias"),
    "cohere2": Family(_cohere, tied="always", norm_bias="layer_norm_bias"),
    "seed_oss": Family(_seed_oss),
    "ernie4_5": Family(_ernie4_5, tied="if told"),
    "exaone4": Family(_qwen3, tied="if told"),
    "hunyuan_v1_dense": Family(_hunyuan, tied="if told"),
    "gpt_oss": Family(_gpt_oss, tied="never"),
    "deepseek_v2": Family(_deepseek_v2, tied="never"),
}
"""Families whose parameters are counted exactly."""

_UNKNOWN: Final = Family(_unknown, tied="if told", known=False)

_WRAPPERS: Final = {
    # What a model with pictures calls its language part where that names no type of its own.
    "gemma3": "gemma3_text",
    "mistral3": "mistral",
    "pixtral": "mistral",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
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
"""What Google's configs leave out."""


def family_of(config: Mapping[str, Any]) -> tuple[str, Family, Config]:
    """A model's family by name, and the part of its config.json that describes the language."""
    model_type = str(config.get("model_type", ""))
    inner = config.get("text_config")
    language = _language_part(config, inner, model_type) if isinstance(inner, Mapping) else config
    own = str(language.get("model_type", model_type))
    name = own if own in FAMILIES else _WRAPPERS.get(model_type, model_type)
    return name, FAMILIES.get(name, _UNKNOWN), Config(language)


def _language_part(
    config: Mapping[str, Any], inner: Mapping[str, Any], model_type: str
) -> Mapping[str, Any]:
    """The nested language config, with what it leaves to its surroundings."""
    outer = {
        key: config[key]
        for key in ("vocab_size", "tie_word_embeddings", "torch_dtype", "dtype")
        if key in config
    }
    if model_type == "gemma3":
        return {**_GEMMA3_DEFAULTS, **outer, **inner}
    if model_type in ("mistral3", "pixtral", "llava"):
        return {"tie_word_embeddings": False, **outer, **inner}
    return {**outer, **inner}

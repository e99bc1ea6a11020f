"""The parts of transformer blocks, with mlx-lm's names, and the activations each one keeps."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Final, Literal

from mlxft.memory.blocks import Block, Matrix, Recurrence
from mlxft.memory.config import Config


@dataclass(frozen=True)
class BlockPart:
    """One part of a block: its matrices, other parameters, and the values kept per token.

    `routed` of the values belong to experts; `heads` are those of attention scores; `recurrence`
    is a state passed from token to token, `head_size` that of a query's head. `on_cpu` are values
    that a CPU keeps on top, or doesn't keep if negative; `routed_on_cpu` of them belong to experts.
    """

    matrices: tuple[Matrix, ...]
    _: KW_ONLY
    vectors: int = 0
    width: int = 0
    routed: int = 0
    heads: int = 0
    head_size: int = 0
    recurrence: Recurrence | None = None
    on_cpu: int = 0
    routed_on_cpu: int = 0


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Values that an MLP keeps on a GPU and on a CPU, in inner widths."""

    gpu: float
    cpu: float


SWIGLU: Final = Kept(gpu=3, cpu=5)
"""Both inputs and the product; on a CPU also the sigmoid and the SiLU."""

GEGLU: Final = Kept(gpu=4, cpu=5)
"""The same with a GELU by its tanh approximation, which isn't joined with the product."""

EXACT_GEGLU: Final = Kept(gpu=6.5, cpu=5)
"""The same with a GELU by the error function, which is MLX's own everywhere."""

OTHERS: Final = Kept(gpu=5, cpu=5)
"""Activation functions that are MLX's own everywhere."""


def attention(
    c: Config,
    *,
    bias: bool = False,
    out_bias: bool | None = None,
    out: str = "o_proj",
    even: bool = False,
    fused: bool = False,
    norms: Literal["none", "head", "whole"] = "none",
    gate: bool = False,
) -> BlockPart:
    """Grouped-query attention; `out_bias` defaults to `bias`, `even` ignores config's head_dim.

    With a `gate` the query projection has twice the outputs, half of which multiply the result.
    """
    size = c.even_head_dim if even else c.head_dim
    q, kv = c.heads * size, c.kv_heads * size
    projections = {"q_proj": (1 + gate) * q, "k_proj": kv, "v_proj": kv}
    if fused:
        projections = {"qkv_proj": q + 2 * kv}
    into = (
        linear(f"self_attn.{name}", outputs, c.hidden, bias, reads="attention")
        for name, outputs in projections.items()
    )
    last = linear(f"self_attn.{out}", c.hidden, q, bias if out_bias is None else out_bias)
    return BlockPart(
        (*into, last),
        vectors={"none": 0, "head": 2 * size, "whole": q + kv}[norms],
        width=2 * (q + kv) + (0 if norms == "none" else round(1.5 * (q + kv))) + 3 * gate * q,
        heads=c.heads,
        head_size=size,
    )


def latent_attention(c: Config, *, absorbed: bool = False) -> BlockPart:
    """DeepSeek's multi-head latent attention.

    With `absorbed`, keys and values are computed from the latent by one matrix per head, as mlx-lm
    stores them for models that generate from the latent.
    """
    rope, nope = c.number("qk_rope_head_dim", 64), c.number("qk_nope_head_dim", 128)
    value, latent = c.number("v_head_dim", 128), c.number("kv_lora_rank", 512)
    rank, bias = c.number("q_lora_rank", 0), c.flag("attention_bias")
    q, v = c.heads * (rope + nope), c.heads * value
    queries = (
        (
            linear("self_attn.q_a_proj", rank, c.hidden, bias, reads="attention"),
            linear("self_attn.q_b_proj", q, rank),
        )
        if rank
        else (linear("self_attn.q_proj", q, c.hidden, reads="attention"),)
    )
    unfolding: tuple[Matrix, ...] = (
        linear("self_attn.kv_b_proj", c.heads * (nope + value), latent),
    )
    if absorbed:
        unfolding = (
            _headwise("self_attn.embed_q", c.heads, latent, nope),
            _headwise("self_attn.unembed_out", c.heads, value, latent),
        )
    return BlockPart(
        (
            *queries,
            linear(
                "self_attn.kv_a_proj_with_mqa", latent + rope, c.hidden, bias, reads="attention"
            ),
            *unfolding,
            linear("self_attn.o_proj", c.hidden, v, bias),
        ),
        vectors=rank + latent,
        width=2 * (rank + latent) + 3 * q + 2 * v,
        on_cpu=-(rank + latent + q),
        heads=c.heads,
        head_size=rope + nope,
    )


def delta_net(c: Config, *, fused: bool = False) -> BlockPart:
    """Qwen's gated delta net: a short convolution, norms of queries and keys, the recurrence, and a
    gated norm."""
    heads, key_heads = c.number("linear_num_value_heads"), c.number("linear_num_key_heads")
    key, value = c.number("linear_key_head_dim"), c.number("linear_value_head_dim")
    keys, values = key_heads * key, heads * value
    mixed = 2 * keys + values
    into = {"qkv": mixed, "z": values, "b": heads, "a": heads}
    if fused:
        into = {"qkvz": mixed + values, "ba": 2 * heads}
    return BlockPart(
        (
            *(
                linear(f"linear_attn.in_proj_{name}", outputs, c.hidden, reads="attention")
                for name, outputs in into.items()
            ),
            linear("linear_attn.out_proj", c.hidden, values),
        ),
        vectors=mixed * c.number("linear_conv_kernel_dim") + 2 * heads + value,
        width=2 * (mixed + keys + values),
        recurrence=Recurrence(heads * value * key, heads * max(key, value)),
    )


def state_space(c: Config) -> BlockPart:
    """A guess at a state-space layer such as Mamba's: no size of it was measured."""
    inner, state = c.number("intermediate_size", 2 * c.hidden), c.number("state_size", 1)
    matrices = (
        linear("mixer.in_proj", 2 * inner, c.hidden),
        linear("mixer.out_proj", c.hidden, inner),
    )
    return BlockPart(matrices, width=8 * inner, recurrence=Recurrence(inner * state, inner * state))


def short_convolution(c: Config) -> BlockPart:
    """LFM2's short convolution between two gates."""
    bias = c.flag("conv_bias")
    return BlockPart(
        (
            linear("conv.in_proj", 3 * c.hidden, c.hidden, bias, reads="attention"),
            linear("conv.out_proj", c.hidden, c.hidden, bias),
        ),
        vectors=c.hidden * (c.number("conv_L_cache") + bias),
        width=5 * c.hidden,
    )


def gated(
    c: Config,
    *,
    path: str = "mlp",
    width: int | None = None,
    bias: bool = False,
    kept: Kept = SWIGLU,
    names: tuple[str, str, str] = ("gate_proj", "down_proj", "up_proj"),
) -> BlockPart:
    """A gated MLP; `names` are those of gate, down and up projections."""
    wide = c.number("intermediate_size") if width is None else width
    gate, down, up = (f"{path}.{name}" for name in names)
    return BlockPart(
        (
            linear(gate, wide, c.hidden, bias, reads="mlp"),
            linear(down, c.hidden, wide, bias),
            linear(up, wide, c.hidden, bias, reads="mlp"),
        ),
        width=round(kept.gpu * wide),
        on_cpu=round((kept.cpu - kept.gpu) * wide),
    )


def fused_gated(c: Config) -> BlockPart:
    """A gated MLP with gate and up in one matrix."""
    wide = c.number("intermediate_size")
    return BlockPart(
        (
            linear("mlp.gate_up_proj", 2 * wide, c.hidden),
            linear("mlp.down_proj", c.hidden, wide),
        ),
        width=round(SWIGLU.gpu * wide),
        on_cpu=round((SWIGLU.cpu - SWIGLU.gpu) * wide),
    )


def plain(c: Config, first: str, second: str, *, kept: Kept = OTHERS) -> BlockPart:
    """An MLP of two matrices with biases, and a GELU between them."""
    wide = c.number("intermediate_size", 4 * c.hidden)
    return BlockPart(
        (
            linear(f"mlp.{first}", wide, c.hidden, True),
            linear(f"mlp.{second}", c.hidden, wide, True),
        ),
        width=round(kept.gpu * wide),
        on_cpu=round((kept.cpu - kept.gpu) * wide),
    )


def experts(
    c: Config,
    *,
    path: str,
    router: str | None,
    width: int,
    bias: bool = False,
    active: int | None = None,
    kept: Kept = SWIGLU,
) -> BlockPart:
    """A gated MLP per expert, and the router if it is a linear layer.

    A token's values are copied and sorted once per active expert, and so are the results.
    """
    count = c.number("num_experts")
    passed = c.number("num_experts_per_tok", 1) if active is None else active

    def switch(name: str, outputs: int, inputs: int, reads: str) -> Matrix:
        return Matrix(
            f"{path}.{name}",
            outputs,
            inputs,
            bias=bias,
            experts=count,
            active=passed,
            reads=reads,
        )

    values = round(passed * (kept.gpu * width + 3 * c.hidden))
    inner_on_cpu = round(passed * (kept.cpu - kept.gpu) * width)
    routers = (linear(router, count, c.hidden, bias, reads="mlp"),) if router else ()
    return BlockPart(
        (
            switch("gate_proj", width, c.hidden, "gathered"),
            switch("up_proj", width, c.hidden, "gathered"),
            switch("down_proj", c.hidden, width, "inner"),
            *routers,
        ),
        width=values,
        routed=values,
        on_cpu=inner_on_cpu - passed * c.hidden // 2,
        routed_on_cpu=inner_on_cpu,
    )


def block(
    c: Config,
    *parts: BlockPart,
    norms: int = 2,
    norm_bias: bool = False,
    vectors: int = 0,
    fused_attention: bool = True,
) -> Block:
    """A block made of parts, with this many norms of the model's width."""
    norm = c.hidden * (2 if norm_bias else 1)
    return Block(
        matrices=tuple(each for part in parts for each in part.matrices),
        vectors=norms * norm + vectors + sum(part.vectors for part in parts),
        heads=sum(part.heads for part in parts),
        width=2 * norms * c.hidden + sum(part.width for part in parts),
        fused_attention=fused_attention,
        head_size=max((part.head_size for part in parts), default=0),
        routed=sum(part.routed for part in parts),
        recurrence=next((part.recurrence for part in parts if part.recurrence), None),
        on_cpu=c.hidden + sum(part.on_cpu for part in parts),
        routed_on_cpu=sum(part.routed_on_cpu for part in parts),
    )


def _headwise(name: str, heads: int, outputs: int, inputs: int) -> Matrix:
    """One matrix per head, on which mlx-lm puts no adapter."""
    return Matrix(name, outputs, inputs, experts=heads, active=heads, reads=name, adaptable=False)


def linear(name: str, outputs: int, inputs: int, bias: bool = False, reads: str = "") -> Matrix:
    """A plain matrix; it has an input of its own unless `reads` names a shared one."""
    return Matrix(name, outputs, inputs, bias=bias, reads=reads or name)

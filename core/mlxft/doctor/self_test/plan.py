"""What a self-test measures, by the kind of device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mlxft.memory.fitted import BackendKind
from mlxft.self_test.figures import GradientRequest, ProductRequest, StepPoint

Break = Literal["stop", "kill", "torn"]
"""A run is stopped, killed, or killed with its newest checkpoint torn."""

SECONDS: Final = 300.0
"""How long a self-test takes at most."""


def llama(
    hidden: int,
    inner: int,
    *,
    layers: int,
    heads: tuple[int, int],
    vocabulary: int,
    head: int | None = None,
    bits: int | None = None,
) -> dict[str, Any]:
    """The config.json of a llama; `heads` are those of queries and of keys."""
    quantized = {"quantization": {"group_size": 64, "bits": bits}} if bits else {}
    return {
        "model_type": "llama",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": head or hidden // heads[0],
        "vocab_size": vocabulary,
        **quantized,
    }


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The runs of engine processes: the steps of those that are broken and resumed, how often
    they save, how they are broken, the least steps of the demo's, and whether that trains the
    demo's model where it is there, or a random one."""

    steps: int = 240
    save_every: int = 24
    breaks: Sequence[Break] = ("stop", "kill", "torn")
    demo_steps: int = 8
    demo_tokens: int = 128
    trains_demo: bool = True


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is measured. An empty part is left out."""

    points: Sequence[StepPoint] = ()
    gradients: Sequence[GradientRequest] = ()
    products: Sequence[ProductRequest] = ()
    runs: RunPlan | None = None
    disk_bytes: int = 64_000_000
    keys: int = 12
    seconds: float = SECONDS


_PRODUCT_TOKENS: Final[dict[BackendKind, tuple[int, ...]]] = {
    "cpu": (64,),
    "metal": (2048, 64),
    # As many as a run's start measures with: CUDA compiles other kernels for fewer.
    "cuda": (2048,),
}


def plan_for(kind: BackendKind) -> Plan:
    """The self-test of a device."""
    small = kind == "cpu"
    return Plan(
        points=_points(small),
        gradients=_gradients(small),
        products=[
            ProductRequest(bits=bits, tokens=tokens, side=1024 if small else 4096)
            for tokens in _PRODUCT_TOKENS[kind]
            for bits in (None, 4, 8)
        ],
        # The demo's float32 weights would have CUDA compile every kernel of a step once more.
        runs=RunPlan(trains_demo=kind != "cuda"),
    )


def _points(small: bool) -> list[StepPoint]:
    """Three models, with short and long rows, recomputed or not.

    On a GPU's machine the CPU, which some are compared with, may have a slow BLAS.
    """
    if small:
        models = {
            "dense": llama(256, 768, layers=6, heads=(4, 2), vocabulary=8192),
            "4-bit": llama(384, 1024, layers=4, heads=(6, 2), vocabulary=4096, bits=4),
            "heads of 256": llama(384, 1536, layers=4, heads=(2, 1), vocabulary=16384, head=256),
        }
        rows = ((128, 4), (767, 1))
    else:
        models = {
            "dense": llama(1024, 4096, layers=8, heads=(16, 4), vocabulary=32768),
            "heads of 256": llama(1024, 4096, layers=8, heads=(4, 1), vocabulary=65536, head=256),
            "4-bit": llama(2048, 8192, layers=4, heads=(32, 8), vocabulary=32768, bits=4),
        }
        rows = ((128, 8), (2047, 1))
    return [
        StepPoint(
            name=name,
            config=config,
            tokens=tokens,
            batch_size=batch_size,
            grad_checkpoint=recomputed,
            is_compared=tokens == rows[0][0] and (small or name == "dense" or not recomputed),
        )
        for name, config in models.items()
        for tokens, batch_size in rows
        for recomputed in (False, True)
    ]


def _gradients(small: bool) -> list[GradientRequest]:
    """Attention by head size, causal and packed, at an odd length; and delta nets."""
    heads = (64, 128, 256) if small else (64, 80, 96, 112, 128, 192, 256)
    lengths, tokens = ((512, 1024), 333) if small else ((1000, 2000), 777)
    attention = [
        GradientRequest(form="causal", head=head, tokens=tokens, lengths=lengths) for head in heads
    ]
    packed = [
        GradientRequest(form="packed", head=head, tokens=tokens, lengths=lengths)
        for head in heads[::2]
    ]
    recurrence = GradientRequest(
        form="recurrence", head=128, tokens=77, lengths=(128, 256) if small else (256, 512)
    )
    return [*attention, *packed, recurrence]

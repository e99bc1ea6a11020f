"""The memory estimate against measured peaks of this trainer's step.

Each point is a model with random weights, trained for three steps in its own process, since memory
kept alive would distort the next measurement. Half of the points of each kind are fitted on, the
others are held out. ``--json`` prints one line last: points, median_error, worst_error and
worst_under as fractions of the measured peak, for the held-out half; the fitted constants; and
every row. ``--rows FILE`` saves the measurements, ``--refit FILE`` fits on saved ones such as those
of benchmarks/peaks, and ``--judge FILE`` only compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mlxft import recipe as recipes
from mlxft.engine.blas import blas_environment
from mlxft.memory.estimator import CONSTANTS, BackendKind, Constants, estimate
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe
from mlxft.storage.paths import cache_dir

STEPS = 3

RECORD: Final = 100
"""Tokens per record in packed rows."""

FITTED: Final = (
    "logits",
    "scores",
    "scores_checkpointed",
    "unfused",
    "scoring",
    "ahead",
    "ahead_checkpointed",
    "lag",
)
"""Constants fitted to the peaks; the others are not part of MLX's peak."""

FACTORS: Final = (0.5, 0.8, 0.9, 0.97, 1.03, 1.1, 1.25, 2.0)
"""Factors by which a constant is varied."""

ROUNDS: Final = 40

AIM: Final[dict[BackendKind, float]] = {"cpu": 1.0, "metal": 1.02, "cuda": 1.02}
"""Target share of the peak; a GPU's peak varies by some percent between runs."""

TOO_LITTLE: Final = 3.0
"""Weight of an estimate that is too low against one that is too high."""

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


def measure(point: Point) -> dict[str, Any]:
    """Train a few steps and return MLX's peak in bytes; needs a process of its own."""
    import mlx.core as mx
    import numpy as np
    from mlx.nn.layers.quantized import quantize
    from mlx_lm.utils import _get_classes

    from mlxft.compute import backend
    from mlxft.compute.models import adapters, loading
    from mlxft.compute.training import choices, optimizers
    from mlxft.compute.training.batches import batch_arrays
    from mlxft.compute.training.expected_memory import run_ahead_limit
    from mlxft.compute.training.loss import chunked_loss
    from mlxft.compute.training.step import Stepper

    cpu = backend.kind() == "cpu"
    dtype = "float32" if cpu else "bfloat16"
    config, recipe = point.model_config(dtype), point.recipe
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.set_dtype(getattr(mx, dtype))
    if point.bits is not None and not cpu:
        quantize(model, 64, point.bits)
    loaded = loading.LoadedModel(model, config, "", dtype, 0)
    adapters.attach(loaded, recipe)
    optimizer = optimizers.make_optimizer(recipe)
    optimizer.init(model.trainable_parameters())
    stepper = Stepper(
        model,
        optimizer,
        seed=recipe.seed,
        grad_checkpoint=recipe.grad_checkpoint,
        loss=chunked_loss,
        dtype=adapters.compute_dtype(loaded, recipe),
        max_grad_norm=recipe.max_grad_norm,
        choices=choices.chosen(recipe, loaded),
    )
    shape = (recipe.batch_size, point.length + 1)
    tokens = np.random.default_rng(0).integers(0, config["vocab_size"], shape, np.int32)
    segments = 1 + np.arange(shape[1]) // RECORD + np.zeros(shape, np.int32)
    packed = segments.astype(np.int32) if recipe.packing else None
    batch = batch_arrays(tokens, np.ones(shape, np.bool_), packed)
    mx.eval(model.parameters(), optimizer.state, batch)
    mx.clear_cache()
    mx.reset_peak_memory()
    footprint = 0
    with backend.bounded_memory(run_ahead_limit(recipe, config, point.length + 1)):
        for step in range(1, STEPS * recipe.grad_accumulation_steps + 1):
            stepper.add_gradient(step, batch)
            if step % recipe.grad_accumulation_steps == 0:
                stepper.update(recipe.learning_rate)
            footprint = max(footprint, mx.get_active_memory() + mx.get_cache_memory())
            mx.clear_cache()
    peak = mx.get_peak_memory()
    backend.close()
    return {"peak": peak, "footprint": footprint, "kind": backend.kind()}


def measured(point: Point) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
    environment = {**os.environ, **blas_environment(cache_dir())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def row(point: Point) -> dict[str, Any]:
    """A point with its measured peak."""
    return {**asdict(point), **measured(point)}


def estimated(row: dict[str, Any], constants: Constants | None = None) -> int:
    """The estimate of a row's peak, in bytes."""
    kind: BackendKind = row["kind"]
    point = Point(row["config"], row["length"], row["settings"], row["bits"])
    shapes = ModelShapes.from_config(point.model_config("float32" if kind == "cpu" else "bfloat16"))
    guess = estimate(shapes, point.recipe, kind, None, point.length + 1, constants=constants)
    return guess.peak


def halves(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows to fit on and the held-out ones, decided by the points alone.

    Every other point of a kind is fitted on, so that both halves have all kinds.
    """
    ordered = sorted(rows, key=_kind_of_point)
    return ordered[::2], ordered[1::2]


def _kind_of_point(row: dict[str, Any]) -> tuple[str, ...]:
    settings: dict[str, str] = row["settings"]
    kind = (settings.get(key, "") for key in ("packing", "fine_tune_type", "grad_checkpoint"))
    # The hash shuffles points of the same kind.
    point = [row[key] for key in ("config", "length", "settings", "bits")]
    digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()
    return (*kind, row["config"], digest)


def fitted(rows: list[dict[str, Any]]) -> Constants:
    """The constants with the least error on these rows, by coordinate descent.

    Constants that are 0 for a backend stay 0.
    """
    best = CONSTANTS[rows[0]["kind"]]
    least = _misfit(rows, best)
    for _ in range(ROUNDS):
        before = least
        for name in [each for each in FITTED if getattr(best, each)]:
            for factor in FACTORS:
                value = getattr(best, name) * factor
                candidate = replace(best, **{name: round(value, 3)})
                if (misfit := _misfit(rows, candidate)) < least:
                    best, least = candidate, misfit
        if least == before:
            break
    return best


def _misfit(rows: list[dict[str, Any]], constants: Constants) -> float:
    """Squared errors; estimates that are too low weigh more."""
    errors = [estimated(each, constants) / each["peak"] - AIM[each["kind"]] for each in rows]
    weighed: list[float] = [error if error > 0 else TOO_LITTLE * error for error in errors]
    return math.fsum(each * each for each in weighed)


def with_errors(rows: list[dict[str, Any]], constants: Constants) -> list[dict[str, Any]]:
    """The rows with their estimate and its error as a fraction."""
    guesses = [estimated(each, constants) for each in rows]
    return [
        {**each, "estimate": guess, "error": guess / each["peak"] - 1}
        for each, guess in zip(rows, guesses, strict=True)
    ]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The errors of the estimates; too low is negative."""
    errors = [each["error"] for each in rows]
    return {
        "points": len(rows),
        "median_error": statistics.median(abs(error) for error in errors),
        "worst_error": max(abs(error) for error in errors),
        "worst_under": min(0.0, *errors),
    }


def _show(row: dict[str, Any]) -> None:
    settings = " ".join(f"{key}={value}" for key, value in row["settings"].items())
    model = row["config"] + (f" {row['bits']}-bit" if row["bits"] else "")
    print(
        f"{model:14} {row['length']:5} {settings:62} "
        f"{row['peak'] / 1e9:7.3f} GB  {row['estimate'] / 1e9:7.3f} GB  {row['error']:+.1%}",
        flush=True,
    )


def main() -> None:
    """Measure this machine's points, fit on one half, and compare on the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON with every row")
    parser.add_argument("--device-grid", action="store_true", help="the points for a GPU")
    parser.add_argument("--only", default="", help="only points of this model")
    parser.add_argument(
        "--longest", type=int, default=sys.maxsize, help="tokens of a point at most"
    )
    parser.add_argument("--shortest", type=int, default=0, help="of a point, in tokens")
    parser.add_argument("--packed-only", action="store_true", help="only packed rows")
    parser.add_argument("--jobs", type=int, default=1, help="points measured at once")
    parser.add_argument("--rows", type=Path, help="save the measurements to this file")
    parser.add_argument("--refit", type=Path, help="fit on measurements of this file")
    parser.add_argument("--judge", type=Path, help="only compare measurements of this file")
    parser.add_argument("--no-fit", action="store_true", help="measure and only compare")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        import_module("mlxft.compute.backend")  # loads a fast BLAS, which must come before mlx
        print(json.dumps(measure(Point(**json.loads(arguments.point)))))
        return
    if arguments.judge or arguments.no_fit:
        given = arguments.judge
        rows = json.loads(given.read_text()) if given else _measured_rows(arguments)
        rows = with_errors(rows, CONSTANTS[rows[0]["kind"]])
        for each in rows:
            _show(each)
        print(json.dumps(summary(rows)))
        return
    rows = json.loads(arguments.refit.read_text()) if arguments.refit else _measured_rows(arguments)
    fit_on, judged = halves(rows)
    constants = fitted(fit_on)
    rows = with_errors(rows, constants)
    _, judged = halves(rows)
    result = {**summary(judged), "all_points": len(rows), "constants": asdict(constants)}
    if not arguments.json:
        for each in rows:
            _show(each)
    print(json.dumps({**result, "rows": rows} if arguments.json else result))


def _measured_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    points = GPU_POINTS if arguments.device_grid else CPU_POINTS
    wanted = [
        each
        for each in points
        if arguments.only in ("", each.config)
        and arguments.shortest <= each.length <= arguments.longest
        and (not arguments.packed_only or each.recipe.packing)
    ]
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for done in as_completed([pool.submit(row, each) for each in wanted]):
            rows.append(done.result())
            print(f"{len(rows)} of {len(wanted)}", file=sys.stderr, flush=True)
            if arguments.rows:
                arguments.rows.write_text(json.dumps(rows))
    return rows


if __name__ == "__main__":
    main()

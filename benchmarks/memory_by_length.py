"""Measures the peak memory of a checkpointed training step by row length.

Each length is trained in its own process, one row per step, in all layers of a llama with random
weights. ``--json`` prints one line: length and peak in bytes of each row, and growth, the bytes per
token between the two longest rows divided by those between the two shortest; 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib import import_module
from typing import Any

from mlxft.engine.blas import blas_environment
from mlxft.recipe import Recipe, apply_settings
from mlxft.storage.paths import cache_dir

LENGTHS = (512, 1024, 2048, 4096, 8192)
STEPS = 2

_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def _llama(
    *, hidden: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int
) -> dict[str, Any]:
    return {
        **_LLAMA,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": hidden // heads,
        "vocab_size": vocabulary,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "small": _llama(hidden=128, inner=384, layers=4, heads=2, kv=1, vocabulary=4096),
    "135m": _llama(hidden=576, inner=1536, layers=30, heads=9, kv=3, vocabulary=49152),
    "1b": _llama(hidden=2048, inner=8192, layers=16, heads=32, kv=8, vocabulary=128256),
    "3b": _llama(hidden=3072, inner=8192, layers=28, heads=24, kv=8, vocabulary=128256),
}


def measure(shape: str, bits: int | None, layers: int, length: int) -> int:
    """The peak of a few steps in bytes; run it in a fresh process."""
    backend: Any = import_module("mlxft.compute.backend")  # loads a fast BLAS, before mlx
    import mlx.core as mx
    import mlx.nn as nn
    import numpy as np
    from mlx_lm.utils import _get_classes

    from mlxft.compute.models import adapters
    from mlxft.compute.models.loading import LoadedModel
    from mlxft.compute.training import optimizers
    from mlxft.compute.training.batches import batch_arrays
    from mlxft.compute.training.expected_memory import run_ahead_limit
    from mlxft.compute.training.start_checks import verified
    from mlxft.compute.training.step import Stepper

    config, dtype = SHAPES[shape], "float32" if backend.kind() == "cpu" else "bfloat16"
    model_class, arguments = _get_classes(config)
    mx.random.seed(0)
    model = model_class(arguments.from_dict(config))
    model.set_dtype(getattr(mx, dtype))
    if bits is not None:
        nn.quantize(model, 64, bits)
    recipe = apply_settings(
        Recipe(batch_size=1, num_layers=layers, grad_checkpoint=True),
        [f"max_seq_length={length + 1}"],
    )
    loaded = LoadedModel(model, config, "", dtype, 0)
    adapters.attach(loaded, recipe)
    optimizer = optimizers.make_optimizer(recipe)
    optimizer.init(model.trainable_parameters())
    checked = verified(model, grad_checkpoint=recipe.grad_checkpoint)
    if checked.warnings:
        raise SystemExit(f"Something else would be measured: {checked.warnings[0]}")
    stepper = Stepper(
        model,
        optimizer,
        seed=recipe.seed,
        grad_checkpoint=True,
        loss=checked.loss,
        dtype=adapters.compute_dtype(loaded, recipe),
    )
    tokens = np.random.default_rng(0).integers(0, config["vocab_size"], (1, length + 1), np.int32)
    batch = batch_arrays(tokens, np.ones(tokens.shape, np.bool_))
    mx.eval(model.parameters(), optimizer.state)
    mx.clear_cache()
    mx.reset_peak_memory()
    quantized = {"quantization": {"group_size": 64, "bits": bits}} if bits else {}
    need = {**config, **quantized, "torch_dtype": dtype}
    with backend.bounded_memory(run_ahead_limit(recipe, need, length + 1)):
        for step in range(1, STEPS + 1):
            stepper.add_gradient(step, batch)
            stepper.update(recipe.learning_rate)
            mx.clear_cache()
    peak: int = mx.get_peak_memory()
    backend.close()
    return peak


def measured(shape: str, bits: int | None, layers: int, length: int) -> int:
    """`measure` in a fresh process."""
    point = json.dumps([shape, bits, layers, length])
    environment = {**os.environ, **blas_environment(cache_dir())}
    done = subprocess.run(
        [sys.executable, __file__, "--point", point],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


def growth(peaks: dict[int, int]) -> float:
    """Bytes per token at the longest rows divided by bytes per token at the shortest."""
    lengths = sorted(peaks)

    def slope(low: int, high: int) -> float:
        return (peaks[high] - peaks[low]) / (high - low)

    return slope(*lengths[-2:]) / slope(*lengths[:2])


def main() -> None:
    """Measure each length and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--bits", type=int, help="quantize the model")
    parser.add_argument("--layers", type=int, default=-1, help="layers to train; -1 for all")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(measure(*json.loads(arguments.point)))
        return
    peaks: dict[int, int] = {}
    for length in arguments.lengths:
        peaks[length] = measured(arguments.shape, arguments.bits, arguments.layers, length)
        if not arguments.json:
            print(f"{length:6} tokens  {peaks[length] / 1e6:10.1f} MB", flush=True)
    rows = [{"length": length, "peak": peak} for length, peak in peaks.items()]
    result = {"shape": arguments.shape, "bits": arguments.bits, "growth": None, "rows": rows}
    if len(peaks) > 2:
        result["growth"] = round(growth(peaks), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

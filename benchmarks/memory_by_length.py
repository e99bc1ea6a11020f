"""Measures the peak memory of a checkpointed training step by row length.

Each length is trained in its own process, one row per step, in all layers of a llama with random
weights. ``--json`` prints one line: length and peak in bytes of each row, and growth, the bytes per
token between the two longest rows divided by those between the two shortest; 1 is linear.
``--packed`` trains rows of records of 300 tokens. ``--operations`` computes attention as is chosen
for another backend.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from mlxft.engine.blas import blas_environment
from mlxft.recipe import Recipe, apply_settings
from random_models import SHAPES, described, started

LENGTHS = (512, 1024, 2048, 4096, 8192)
STEPS = 2

RECORD = 300
"""Tokens of each record of a packed row."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every length is trained with."""

    shape: str
    bits: int | None
    layers: int
    head_dim: int | None
    packed: bool
    operations: Any

    @property
    def config(self) -> dict[str, Any]:
        """The model's config.json; another head size keeps the number of heads."""
        config = described(self.shape, self.bits)
        return {**config, "head_dim": self.head_dim or config["head_dim"]}


def measure(setting: Setting, length: int) -> int:
    """The peak of a few steps in bytes; run it in a fresh process."""
    backend: Any = import_module("mlxft.compute.backend")  # loads a fast BLAS, before mlx
    import mlx.core as mx
    import numpy as np

    from mlxft.compute.measuring.random_models import attached
    from mlxft.compute.training.batches import batch_arrays
    from mlxft.compute.training.limits import clear_cache, training_limits

    config = setting.config
    recipe = apply_settings(
        Recipe(batch_size=1, num_layers=setting.layers, grad_checkpoint=True),
        [f"max_seq_length={length + 1}", f"packing={str(setting.packed).lower()}"],
    )
    loaded = attached(config, recipe)
    ready = started(loaded, recipe, length + 1, setting.operations)
    tokens = np.random.default_rng(0).integers(0, config["vocab_size"], (1, length + 1), np.int32)
    segments = (1 + np.arange(length + 1) // RECORD)[None].astype(np.int32)
    batch = batch_arrays(
        tokens, np.ones(tokens.shape, np.bool_), segments if setting.packed else None
    )
    mx.eval(loaded.model.parameters(), ready.optimizer.state)
    mx.clear_cache()
    mx.reset_peak_memory()
    with training_limits(ready.run_ahead_limit):
        for step in range(1, STEPS + 1):
            ready.stepper.add_gradient(step, batch)
            ready.stepper.update(recipe.learning_rate)
            clear_cache(recipe.clear_cache_threshold)
    peak: int = mx.get_peak_memory()
    backend.close()
    return peak


def measured(setting: Setting, length: int) -> int:
    """`measure` in a fresh process."""
    point = json.dumps([asdict(setting), length])
    environment = {**os.environ, **blas_environment()}
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
    parser.add_argument("--head-dim", type=int, help="another head size")
    parser.add_argument("--packed", action="store_true", help="rows of several records")
    parser.add_argument(
        "--operations", choices=("cpu", "metal", "cuda"), help="choose as another backend does"
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        given, length = json.loads(arguments.point)
        print(measure(Setting(**given), length))
        return
    setting = Setting(
        shape=arguments.shape,
        bits=arguments.bits,
        layers=arguments.layers,
        head_dim=arguments.head_dim,
        packed=arguments.packed,
        operations=arguments.operations,
    )
    peaks: dict[int, int] = {}
    for length in arguments.lengths:
        peaks[length] = measured(setting, length)
        if not arguments.json:
            print(f"{length:6} tokens  {peaks[length] / 1e6:10.1f} MB", flush=True)
    rows = [{"length": length, "peak": peak} for length, peak in peaks.items()]
    result = {**asdict(setting), "growth": None, "rows": rows}
    if len(peaks) > 2:
        result["growth"] = round(growth(peaks), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

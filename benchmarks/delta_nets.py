"""Training of gated delta nets: in chunks, against mlx_lm's recurrence token by token.

Every point is measured in a process of its own, the two ways in turns. ``--json`` prints one line:

- rows: the recurrence alone, forward and backward, by tokens: CPU seconds of the process and MLX's
  peak, both ways;
- layer_time_ratio and layer_memory_ratio: chunks divided by token by token, at ``--tokens``;
- model_throughput_ratio and model_peak_ratio: steps of a small model of one row of ``--tokens``:
  tokens per second and peak, chunks divided by token by token.

``--gpu`` instead trains all layers of Qwen3.5-0.8B's shape with random bfloat16 weights,
checkpointed, and prints tokens per second, peak in bytes, and seconds to the end of the first step;
with ``--compile always`` that compiles kernels where the machine hasn't them, and takes minutes.

``--gpu --made`` has a real run begin where no kernels are, in folders of its own, and prints:

- first_step: seconds from the engine's start to the end of the first step, uncompiled;
- tokens_per_second_before, slowest_step_before: while a process beside the run makes the kernels;
- until_switch: seconds from the engine's start until steps are compiled;
- first_compiled_step, tokens_per_second_after: its seconds, and the speed after it;
- peak, device_peak: of the run's process by MLX, and of the GPU by its driver, in bytes;
- kernels_at_switch, kernels_at_end: the difference is what the process has left to the run;
- later_first_step: seconds from a second run's start to its first step, with the kernels there.

``--pretend`` has a CPU go the same way; it compiles nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mlxft.engine.blas import blas_environment
from mlxft.recipe import Recipe, apply_settings

LENGTHS: Final = (256, 512, 1024, 2048)
HEADS, SIZE = 16, 128
REPEATS: Final = 3

_QWEN: dict[str, Any] = {
    "model_type": "qwen3_5",
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "rope_parameters": {
        "type": "default",
        "mrope_section": [11, 11, 10],
        "rope_theta": 10000000.0,
        "partial_rotary_factor": 0.25,
    },
}

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "small": {
        **_QWEN,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 4096,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 4,
    },
    "0.8b": {
        **_QWEN,
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": 24,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "vocab_size": 248320,
        "linear_num_value_heads": 16,
        "linear_num_key_heads": 16,
    },
}


def measure_layer(chunks: bool, tokens: int) -> dict[str, float]:
    """CPU seconds and peak of the recurrence's forward and backward pass, after a warm-up."""
    backend: Any = import_module("mlxft.compute.backend")  # loads a fast BLAS, before mlx
    import mlx.core as mx
    from mlx_lm.models import gated_delta

    from mlxft.compute.training.recurrent_layers import gated_delta_by

    update = gated_delta_by(backend.kind()) if chunks else gated_delta.gated_delta_update
    mx.random.seed(0)
    q, k, v, weights = (mx.random.normal((1, tokens, HEADS, SIZE)) for _ in range(4))
    q, k = gated_delta.normalize_qk(q, k, inv_scale=SIZE**-0.5, eps=1e-6)
    a, b = (mx.random.normal((1, tokens, HEADS)) for _ in range(2))
    rate, bias = mx.log(mx.random.uniform(0, 16, (HEADS,))), mx.ones(HEADS)
    mx.eval(q, k, v, a, b, rate, bias, weights)

    def loss(*arrays: mx.array) -> mx.array:
        reads, _ = update(*arrays, use_kernel=False)
        return (reads * weights).sum()

    step = mx.value_and_grad(loss, argnums=tuple(range(7)))
    seconds: list[float] = []
    for _ in range(1 + REPEATS if chunks else 2):
        mx.clear_cache()
        mx.reset_peak_memory()
        started = time.process_time()
        mx.eval(step(q, k, v, a, b, rate, bias))
        seconds.append(time.process_time() - started)
    return {"seconds": min(seconds[1:]), "peak": mx.get_peak_memory()}


def measure_model(
    chunks: bool, shape: str, rows: int, tokens: int, checkpoint: bool, steps: int, compiled: str
) -> dict[str, float]:
    """Tokens per second, peak, and seconds from nothing to the end of the first step."""
    backend: Any = import_module("mlxft.compute.backend")
    import mlx.core as mx
    import numpy as np

    from mlxft.compute.measuring.random_models import attached
    from mlxft.compute.training.batches import batch_arrays
    from mlxft.compute.training.limits import training_limits
    from random_models import started

    config = SHAPES[shape]
    recipe = apply_settings(
        Recipe(batch_size=rows, num_layers=-1, grad_checkpoint=checkpoint),
        [f"max_seq_length={tokens + 1}", f"compile_steps={compiled}"],
    )
    loaded = attached(config, recipe)
    ids = np.random.default_rng(0).integers(0, config["vocab_size"], (rows, tokens + 1), np.int32)
    batch = batch_arrays(ids, np.ones(ids.shape, np.bool_))
    seconds: list[float] = []
    with nullcontext() if chunks else _token_by_token():
        ready = started(loaded, recipe, tokens + 1)
        mx.eval(loaded.model.parameters(), ready.optimizer.state)
        mx.clear_cache()
        mx.reset_peak_memory()
        with training_limits(ready.run_ahead_limit):
            for step in range(1, steps + 2):
                begun = time.perf_counter()
                ready.stepper.add_gradient(step, batch)
                ready.stepper.update(recipe.learning_rate)
                seconds.append(time.perf_counter() - begun)
    peak = mx.get_peak_memory()
    backend.close()
    rate = rows * tokens / statistics.median(seconds[1:])
    return {"tokens_per_second": rate, "peak": peak, "first_step": seconds[0]}


def _token_by_token() -> Any:
    """Leave the recurrences to mlx_lm."""
    from unittest import mock

    from mlxft.compute.training import recurrent_layers

    return mock.patch.object(recurrent_layers, "replacements", return_value=[])


def measured(kind: str, *arguments: Any) -> dict[str, float]:
    """A point in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--point", json.dumps([kind, *arguments])],
        env={**os.environ, **blas_environment()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def layer_rows(lengths: list[int]) -> list[dict[str, Any]]:
    """The recurrence alone, by number of tokens."""
    rows = []
    for tokens in lengths:
        new = measured("layer", True, tokens)
        row: dict[str, Any] = {"tokens": tokens, "chunks": new, "token_by_token": None}
        try:
            old = measured("layer", False, tokens)
        except subprocess.CalledProcessError:  # Out of memory: at 2,048 tokens it needs 9 GB.
            old = None
        if old is not None:
            row["token_by_token"] = old
            row["time_ratio"] = round(new["seconds"] / old["seconds"], 3)
            row["memory_ratio"] = round(new["peak"] / old["peak"], 4)
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def model_ratios(tokens: int, turns: int) -> dict[str, Any]:
    """A small model's steps, both ways in turns; the median of the turns' ratios."""
    speeds, peaks = [], []
    for _ in range(turns):
        old = measured("model", False, "small", 1, tokens, False, 1, "auto")
        new = measured("model", True, "small", 1, tokens, False, 5, "auto")
        print(json.dumps({"old": old, "new": new}), file=sys.stderr, flush=True)
        speeds.append(new["tokens_per_second"] / old["tokens_per_second"])
        peaks.append(new["peak"] / old["peak"])
    return {
        "model_throughput_ratio": round(statistics.median(speeds), 2),
        "model_peak_ratio": round(statistics.median(peaks), 3),
    }


def write_model(folder: str, shape: str) -> dict[str, float]:
    """A model of this shape on disk, which a run can name."""
    model_folder: Any = import_module("mlxft.compute.measuring.model_folder")
    model_folder.write(Path(folder), SHAPES[shape])
    return {}


def made(arguments: argparse.Namespace) -> dict[str, Any]:
    """A run that finds no kernels."""
    from made_kernels import Wanted, measure

    wanted = Wanted(
        rows=arguments.rows,
        tokens=arguments.row_tokens,
        steps=arguments.steps,
        seconds=arguments.seconds,
        pretends=arguments.pretend,
    )
    return measure(lambda folder: measured("folder", str(folder), arguments.shape), wanted)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--tokens", type=int, default=1024, help="where the ratios are taken")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--gpu", action="store_true", help="only Qwen3.5-0.8B's shape")
    parser.add_argument("--rows", type=int, default=4, help="rows of --gpu")
    parser.add_argument("--row-tokens", type=int, default=2048, help="tokens of a row of --gpu")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of --gpu")
    parser.add_argument(
        "--compile", choices=("auto", "always", "never"), default="auto", help="steps of --gpu"
    )
    parser.add_argument("--shape", choices=SHAPES, default="0.8b", help="the shape of --gpu")
    parser.add_argument("--made", action="store_true", help="a run that finds no kernels")
    parser.add_argument("--seconds", type=float, default=480, help="limit of --made")
    parser.add_argument("--pretend", action="store_true", help="try --made out on a CPU")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        kind, *rest = json.loads(arguments.point)
        points: dict[str, Callable[..., Any]] = {
            "layer": measure_layer,
            "model": measure_model,
            "folder": write_model,
        }
        print(json.dumps(points[kind](*rest)))
        return
    if arguments.made:
        print(json.dumps(made(arguments)))
        return
    if arguments.gpu:
        shape = [arguments.shape, arguments.rows, arguments.row_tokens]
        rest = [*shape, True, arguments.steps, arguments.compile]
        print(json.dumps(measured("model", True, *rest)))
        return
    rows = layer_rows(sorted({*arguments.lengths, arguments.tokens}))
    (at,) = (each for each in rows if each["tokens"] == arguments.tokens)
    result = {
        "layer_time_ratio": at["time_ratio"],
        "layer_memory_ratio": at["memory_ratio"],
        **model_ratios(arguments.tokens, arguments.turns),
    }
    if not arguments.json:
        for name, value in result.items():
            print(f"{name:24} {value}")
        return
    print(json.dumps({**result, "rows": rows}))


if __name__ == "__main__":
    main()

"""When a second machine pays: a calculation, and a measurement of what it is made from.

``table`` prints the table of docs/distributed.md. ``measure`` trains a small llama in one process
and in two on this machine, which add up their gradients over MLX's ring, and compares the time of a
step with what the link, measured as a run does, and one process's step say.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from mlxft import recipe as recipes
from mlxft.duration.chips import CHIPS, step_seconds
from mlxft.duration.expectation import work_of
from mlxft.hosts.link import Link, SumTime, gradient_message, link_of, ranks_step
from mlxft.memory.estimator import trained_parameters
from mlxft.memory.shapes import ModelShapes
from mlxft.recipe import Recipe

CHIP: Final = "M4 Max"
TOKENS: Final = 1024
"""Of a row."""

LINKS: Final = {
    "Thunderbolt 4": Link(latency=1e-4, bandwidth=2.0e9),
    "10 Gb Ethernet": Link(latency=2e-4, bandwidth=1.0e9),
    "1 Gb Ethernet": Link(latency=3e-4, bandwidth=1.1e8),
    "Wi-Fi": Link(latency=3e-3, bandwidth=3.0e7),
}
"""Assumed: about 80% to 90% of nominal rates, of Thunderbolt's 20 Gb/s over IP, and usual latencies
of TCP between two machines. A run measures its own."""


class Case(NamedTuple):
    """A model, what is trained of it, and the rows of a step."""

    name: str
    config: dict[str, Any]
    settings: tuple[str, ...]


def _llama(hidden: int, inner: int, layers: int, heads: int, kv: int, bits: int | None) -> Any:
    packed = {"quantization": {"bits": bits, "group_size": 64}} if bits else {}
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": 128256,
        "tie_word_embeddings": layers < 32,
        "torch_dtype": "bfloat16",
        **packed,
    }


LLAMA_1B: Final = _llama(2048, 8192, 16, 32, 8, None)
LLAMA_3B: Final = _llama(3072, 8192, 28, 24, 8, 4)
LLAMA_8B: Final = _llama(4096, 14336, 32, 32, 8, 4)

CASES: Final = (
    Case("1B, LoRA", LLAMA_1B, ("batch_size=2",)),
    Case("1B, LoRA", LLAMA_1B, ("batch_size=8",)),
    Case("3B 4-bit, LoRA", LLAMA_3B, ("batch_size=2",)),
    Case("8B 4-bit, LoRA", LLAMA_8B, ("batch_size=2",)),
    Case(
        "8B 4-bit, LoRA rank 64, all layers", LLAMA_8B, ("batch_size=2", "rank=64", "num_layers=-1")
    ),
    Case("1B, full", LLAMA_1B, ("batch_size=8", "fine_tune_type=full", "num_layers=-1")),
)


def table() -> list[str]:
    """The gains of a second machine with the same chip, as rows of Markdown."""
    lines = [
        f"| trained | rows of {TOKENS} | one {CHIP} | message | {' | '.join(LINKS)} |",
        f"|---|---|---|---|{'---|' * len(LINKS)}",
    ]
    for case in CASES:
        recipe = recipes.apply_settings(Recipe(), case.settings)
        shapes = ModelShapes.from_config(case.config)
        message = gradient_message(trained_parameters(shapes, recipe))
        gains = [f"{gain(recipe, shapes, link):.2f}×" for link in LINKS.values()]
        step = step_of(recipe, shapes, recipe.batch_size)
        lines.append(
            f"| {case.name} | {recipe.batch_size} | {step:.1f} s | {message / 1e6:.0f} MB | "
            f"{' | '.join(gains)} |"
        )
    return lines


def gain(recipe: Recipe, shapes: ModelShapes, link: Link) -> float:
    """How many times faster two machines train a recipe than one."""
    rows = recipe.batch_size
    message = gradient_message(trained_parameters(shapes, recipe))
    step = step_of(recipe, shapes, rows)
    return step / ranks_step(step, rows=rows, ranks=2, message=message, link=link)


def step_of(recipe: Recipe, shapes: ModelShapes, rows: int) -> float:
    """Seconds of a step on the chip, midway between the shortest and longest expected."""
    shortest, longest = step_seconds(CHIPS[CHIP], work_of(shapes, recipe), recipe, rows * TOKENS)
    return float((shortest * longest) ** 0.5)


# The measurement

SMALL: Final = {
    **_llama(384, 1024, 6, 6, 2, None),
    "vocab_size": 4096,
    "rms_norm_eps": 1e-5,
}
ROWS: Final = 8
LENGTH: Final = 129
STEPS: Final = 5


def measure(*, full: bool) -> dict[str, Any]:
    """One process with all rows, and two with half of them each."""
    (one,) = _ranks(1, full)
    two = _ranks(2, full)[0]
    link = link_of([SumTime(size, seconds) for size, seconds in two["sums"]], 2)
    message, step = two["message"], one["step"]
    said = ranks_step(step, rows=ROWS, ranks=2, message=message, link=link)
    return {
        "trained": "full" if full else "lora",
        "message": message,
        "one": step,
        "two": two["step"],
        "calculated": said,
        "gain": step / two["step"],
        "calculated_gain": step / said,
        "latency": link.latency,
        "bandwidth": link.bandwidth,
    }


def _ranks(count: int, full: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        hostfile = Path(folder, "hosts.json")
        hostfile.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in _ports(count)]))
        shared = {**os.environ, "MLX_HOSTFILE": str(hostfile), "OPENBLAS_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "rank", str(count), *(["--full"] if full else [])],
                env={**shared, "MLX_RANK": str(rank)},
                stdout=subprocess.PIPE,
            )
            for rank in range(count)
        ]
        printed = [each.communicate()[0] for each in processes]
    return [json.loads(each) for each in printed]


def _ports(count: int) -> list[int]:
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in opened]
    for each in opened:
        each.close()
    return ports


def _rank(count: int, *, full: bool) -> dict[str, Any]:
    """What one process measures of its part, on a core of its own as on a machine of its own."""
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ["MLX_RANK"]) % len(cores)]})
    from mlxft.compute import backend  # noqa: F401, I001 - loads a fast BLAS, before mlx

    import mlx.core as mx
    from mlx.nn import losses
    from mlx.nn.layers.base import Module
    from mlx.nn.utils import value_and_grad
    from mlx_lm.models import llama
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from mlxft.compute.arrays import named_arrays
    from mlxft.compute.link import measured_sums

    mx.set_default_device(mx.cpu)
    group = mx.distributed.init(strict=True, backend="ring") if count > 1 else None

    def sum_of(array: mx.array) -> mx.array:
        summed = mx.distributed.all_sum(array, group=group) if group else array
        mx.eval(summed)
        return summed

    model = llama.Model(llama.ModelArgs.from_dict(SMALL))
    if not full:
        model.freeze()
        linear_to_lora_layers(model, 6, {"rank": 8, "scale": 20.0, "dropout": 0.0})
    tokens = mx.random.randint(0, SMALL["vocab_size"], (ROWS // count, LENGTH))

    def loss(found: Module) -> mx.array:
        return losses.cross_entropy(found(tokens[:, :-1]), tokens[:, 1:]).mean()

    gradient = value_and_grad(model, loss)

    def step() -> int:
        _, found = gradient(model)
        parts = [each.astype(mx.float32).reshape(-1) for each in named_arrays(found).values()]
        message = mx.concatenate(parts)
        mx.eval(message)
        sum_of(message)
        return int(message.nbytes)

    mx.eval(model.parameters())
    size = step()
    sums = measured_sums(sum_of, size) if group else []
    taken = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return {
        "step": statistics.median(taken),
        "message": size,
        "sums": [(each.size, each.seconds) for each in sums],
    }


def main() -> None:
    """Print the table, or what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("table", "measure", "rank"))
    parser.add_argument("count", type=int, nargs="?", default=1)
    parser.add_argument("--full", action="store_true", help="train all weights")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "rank":
        print(json.dumps(_rank(arguments.count, full=arguments.full)))
    elif arguments.what == "measure":
        for full in (False, True):
            print(json.dumps(measure(full=full)), flush=True)
    else:
        print("\n".join(table()))


if __name__ == "__main__":
    main()

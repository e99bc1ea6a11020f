"""Compares this trainer with transformers and PEFT on the same machine: speed and memory.

Both train the same shape with random weights on the same rows, with the same rank and layers and
checkpointed blocks, each in its own process; PEFT in dense bfloat16, on a CPU in float32. Prints a
line of JSON: throughput_ratio and peak_ratio, ours divided by theirs. Peaks are those of each
framework's own allocator, and there is none of PyTorch on a CPU. --peft-python names a Python with
torch, transformers and peft where this one has none.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from long_context import ratio
from random_models import GROUP, SHAPES
from steps import Steps, measured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a line of JSON, as always")
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--bits", type=int, help="quantize our model")
    parser.add_argument("--mode", choices=GROUP, default="affine", help="our quantized weights")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4, help="rows per batch")
    parser.add_argument("--length", type=int, default=2048, help="tokens per row")
    parser.add_argument("--checkpoint", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument("--limit", type=float, default=300, help="seconds for each side")
    parser.add_argument("--peft-python", default=sys.executable)
    arguments = parser.parse_args()
    dense = Steps(
        shape=arguments.shape,
        rows=arguments.batch,
        length=arguments.length,
        layers=arguments.layers,
        rank=arguments.rank,
        checkpoint=arguments.checkpoint,
        steps=arguments.steps,
    )
    quantized = replace(dense, bits=arguments.bits, mode=arguments.mode)
    ours = measured("ours", quantized, seconds=arguments.limit)
    theirs = measured("peft", dense, seconds=arguments.limit, python=arguments.peft_python)
    line = {
        "shape": arguments.shape,
        "bits": arguments.bits,
        "mode": arguments.mode,
        "throughput_ratio": ratio(ours, theirs, "tokens_per_second"),
        "peak_ratio": ratio(ours, theirs, "peak"),
        "ours": ours,
        "theirs": theirs,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()

"""Long rows: peak memory and tokens per second by length, of this trainer and mlx_lm's.

One row per step in all layers, checkpointed, random weights in the shapes of Llama 3.2 1B in
bfloat16, 3B in 4 bits, and one with heads of 256 as in Gemma. Every point is measured in its own
process. Prints a line of JSON for each shape and length. A side that runs out of memory or takes
too long says so in `failed`, and is not measured on longer rows.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from steps import SIDES, Steps, measured

CASES: dict[str, tuple[str, int | None]] = {
    "1b": ("1b", None),
    "3b-4bit": ("3b", 4),
    "head256": ("head256", None),
    "tiny": ("tiny", None),
}
"""Shape and bits by name; the last is for trying the script out."""

LENGTHS = (2048, 4096, 8192, 16384, 32768)


def ratio(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> float | None:
    """Ours divided by theirs; None where one is missing."""
    if not ours.get(name) or not theirs.get(name):
        return None
    return round(float(ours[name] / theirs[name]), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print lines of JSON, as always")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES][:3])
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each point")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["ours", "mlx_lm"])
    parser.add_argument("--limit", type=float, default=180, help="seconds for each point")
    arguments = parser.parse_args()
    for case in arguments.cases:
        shape, bits = CASES[case]
        stopped: dict[str, str] = {}
        for length in sorted(arguments.lengths):
            job = Steps(shape=shape, rows=1, length=length, bits=bits, steps=arguments.steps)
            found: dict[str, dict[str, Any]] = {}
            for side in arguments.sides:
                if side in stopped:
                    found[side] = {"failed": f"stopped: {stopped[side]}"}
                    continue
                found[side] = measured(side, job, seconds=arguments.limit)
                if "failed" in found[side]:
                    stopped[side] = f"{found[side]['failed']} at {length} tokens"
            line: dict[str, Any] = {"case": case, "length": length, **found}
            if len(arguments.sides) == 2:
                ours, theirs = (found[each] for each in arguments.sides)
                line["throughput_ratio"] = ratio(ours, theirs, "tokens_per_second")
                line["peak_ratio"] = ratio(ours, theirs, "peak")
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

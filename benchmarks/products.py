"""Products with quantized weights, packed against unpacked first, by kind of weights and tokens.

Measured as at a run's start. Prints a line of JSON for each kind: the tokens from which unpacking
is faster, and milliseconds packed and unpacked by number of tokens.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from typing import Any, Final

KINDS: Final = (
    ("affine", 4, 64),
    ("affine", 8, 64),
    ("mxfp4", 4, 32),
    ("nvfp4", 4, 16),
    ("mxfp8", 8, 32),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print lines of JSON, as always")
    parser.add_argument("--no-experts", action="store_true", help="leave out experts' matrices")
    arguments = parser.parse_args()
    backend: Any = import_module("mlxft.compute.backend")
    from mlxft.compute.training import measured_operations as measured

    for kind in KINDS:
        times = {tokens: measured.product_times(kind, tokens) for tokens in measured.TOKENS}
        columns = {
            "forward": {tokens: each[0] for tokens, each in times.items()},
            "backward": {tokens: each[1] for tokens, each in times.items()},
        }
        if not arguments.no_experts:
            columns["experts"] = {
                tokens: measured.expert_times(kind, tokens) for tokens in measured.TOKENS
            }
        line = {
            "kind": " ".join(map(str, kind)),
            "device": backend.device_name(),
            "unpacked_from": {
                name: measured.least_tokens(column) for name, column in columns.items()
            },
            "milliseconds": {
                name: {
                    tokens: [round(1e3 * each, 3) for each in pair] for tokens, pair in of.items()
                }
                for name, of in columns.items()
            },
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

"""The arguments of `mlxft-tui quantize`, and the kinds of weights of an export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

BITS: Final = (2, 3, 4, 5, 6, 8)
GROUPS: Final = (32, 64, 128)
MODES: Final = ("affine", "mxfp4", "nvfp4", "mxfp8")
RECIPES: Final = ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")
"""Those of `mlxft.export.quantization`, whose import every command would wait for."""

QUANTIZE: Final = (
    *("keep", "none", "2", "3", "4", "5", "6", "8", "mxfp4", "nvfp4", "mxfp8"),
    *("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"),
)
"""Kinds of weights that an export may have."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("model", metavar="MODEL", help="a folder, a GGUF file, or a hub's id")
    parser.add_argument("--bits", type=int, choices=BITS, help="bits of a weight (default 4)")
    parser.add_argument(
        "--group-size", type=int, choices=GROUPS, help="weights that share a scale (default 64)"
    )
    parser.add_argument("--mode", choices=MODES, default="affine", help="default affine")
    parser.add_argument(
        "--recipe", choices=RECIPES, default="", help="mlx_lm's, with two numbers of bits"
    )
    parser.add_argument("--dequantize", action="store_true", help="write unquantized weights")
    parser.add_argument(
        "--data", metavar="DATA", help="records for the loss before and after (default: recipe's)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the model's own code")

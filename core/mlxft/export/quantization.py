"""How a model is quantized, how large it becomes, and what that was measured to cost."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from mlxft.errors import ModelError
from mlxft.export.size import float_bytes, logical_sizes, tensors_in
from mlxft.text import figures

BITS: Final = (2, 3, 4, 5, 6, 8)
GROUPS: Final = (32, 64, 128)
MODES: Final = ("affine", "mxfp4", "nvfp4", "mxfp8")
RECIPES: Final = {
    "mixed_2_6": (2, 6),
    "mixed_3_4": (3, 4),
    "mixed_3_6": (3, 6),
    "mixed_4_6": (4, 6),
}
"""mlx_lm's mixed recipes with the bits of most layers and of the sensitive ones."""

_OWN: Final = {"affine": (4, 64), "mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}
"""Bits and group of each mode; only affine has others."""

_SENSITIVE: Final = 0.3
"""About the share of weights that the mixed recipes give more bits."""


class Quantization(msgspec.Struct, frozen=True, kw_only=True):
    """How the weights of a model are to be stored."""

    bits: int | None = None
    group_size: int | None = None
    mode: str = "affine"
    recipe: str = ""
    dequantize: bool = False

    @property
    def own_bits(self) -> int:
        """Bits of most weights."""
        if self.recipe:
            return RECIPES[self.recipe][0]
        return self.bits or _OWN[self.mode][0]

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        return self.group_size or _OWN[self.mode][1]

    @property
    def title(self) -> str:
        """It in words."""
        if self.dequantize:
            return "not quantized"
        if self.recipe:
            return f"{self.recipe}, groups of {self.group}"
        mode = "" if self.mode == "affine" else f", {self.mode}"
        return f"{self.own_bits} bits{mode}, groups of {self.group}"

    def refuse_contradictions(self) -> None:
        """Raise `ModelError` for options that exclude each other."""
        others = (self.bits, self.group_size, self.recipe, self.mode != "affine")
        if self.dequantize and any(others):
            raise ModelError("--dequantize leaves no weights to quantize; leave out the others.")
        if self.recipe and (self.bits or self.mode != "affine"):
            raise ModelError(f"--recipe {self.recipe} has its own bits and mode; leave those out.")
        bits, group = _OWN[self.mode]
        if self.mode != "affine" and (self.bits or bits, self.group) != (bits, group):
            raise ModelError(f"--mode {self.mode} has {bits} bits and groups of {group} only.")


class Quantized(msgspec.Struct, frozen=True, kw_only=True):
    """A model with other weights, loaded again and measured against what it was made from.

    Losses are in nats per trained token, bits those of a weight with its share of scales.
    """

    folder: str
    quantization: Quantization
    source: str
    """Where the records are from."""
    records: int
    loss_before: float
    loss: float
    largest_difference: float
    """Between two logits."""
    answers: int
    same_answers: int
    bits_before: float
    bits: float
    size_before: int
    size: int

    @property
    def lines(self) -> tuple[str, ...]:
        """The measurements in words."""
        return (
            f"size: {figures.size(self.size_before)} → {figures.size(self.size)}, "
            f"{self.bits_before:.2f} → {self.bits:.2f} bits per weight",
            f"loss: {self.loss_before:.4f} → {self.loss:.4f} on {self.records} {self.source} "
            "records",
            f"logits: at most {self.largest_difference:.2g} apart; greedy answers: "
            f"{self.same_answers} of {self.answers} the same",
        )


def expected_size(model: Path, wanted: Quantization) -> int | None:
    """About how many bytes the weights will take; None where the model's files can't be read."""
    tensors = tensors_in(model)
    if not tensors:
        return None
    whole = float_bytes(tensors)
    bits = float(wanted.own_bits)
    if wanted.recipe:
        low, high = RECIPES[wanted.recipe]
        bits = low + _SENSITIVE * (high - low)
    # Affine groups have a scale and a bias of the weights' type, the other modes one byte.
    scales = 2 * whole if wanted.mode == "affine" else 1.0
    matrix = whole if wanted.dequantize else bits / 8 + scales / wanted.group
    return round(
        sum(
            count * (matrix if is_matrix else whole)
            for count, is_matrix in logical_sizes(tensors, model)
        )
    )

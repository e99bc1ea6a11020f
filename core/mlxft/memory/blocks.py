"""What a transformer block is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

_SCALE_BYTES: Final = {"mxfp4": 1, "mxfp8": 1, "nvfp4": 1}
"""Bytes of a group's scale; affine's scale and bias are of the model's own type."""


@dataclass(frozen=True)
class Quantization:
    """How weights are packed: so many bits each, a scale (and an affine bias) for each group."""

    bits: int
    group_size: int
    mode: str = "affine"

    def bytes_per_weight(self, dtype_bytes: int) -> float:
        """Packed bits and their share of the group's scale and bias."""
        return self.bits / 8 + _SCALE_BYTES.get(self.mode, 2 * dtype_bytes) / self.group_size


@dataclass(frozen=True)
class Matrix:
    """A linear layer: `outputs` × `inputs`, for each expert where it has several.

    `name` is its path inside a block, as mlx-lm names it. `active` is how many of the experts a
    token passes through. Matrices that read the same values have the same `reads`. `adaptable` is
    False for those that mlx-lm puts no adapter on.
    """

    name: str
    outputs: int
    inputs: int
    bias: bool = False
    experts: int = 1
    active: int = 1
    reads: str = ""
    adaptable: bool = True
    quantization: Quantization | None = None

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.experts * self.outputs * (self.inputs + self.bias)

    def stored_bytes(self, dtype_bytes: int) -> float:
        """Bytes of the matrix as the model's files hold it."""
        if self.quantization is None:
            return self.parameters * dtype_bytes
        weights = self.experts * self.outputs * self.inputs
        biases = self.experts * self.outputs * self.bias
        return weights * self.quantization.bytes_per_weight(dtype_bytes) + biases * dtype_bytes


@dataclass(frozen=True)
class Recurrence:
    """What goes from token to token: so many float32 values of state, so many read at each."""

    state: int
    read: int


@dataclass(frozen=True)
class Block:
    """One transformer block; `vectors` counts the parameters of norms and the like.

    `width` is how many values of a token the backward pass needs: what goes into and comes out of
    norms, attention and activation functions. The scores come on top, `heads` for each token
    before it; with `fused_attention` a GPU never holds them whole. `routed` of the
    `width` are those of experts.
    """

    matrices: tuple[Matrix, ...]
    vectors: int
    heads: int
    width: int
    fused_attention: bool = True
    routed: int = 0
    recurrence: Recurrence | None = None

    @cached_property
    def parameters(self) -> int:
        """All of the block's parameters."""
        return self.vectors + sum(each.parameters for each in self.matrices)

    @cached_property
    def active_parameters(self) -> int:
        """Those that one token passes through."""
        matrices = sum(each.parameters * each.active // each.experts for each in self.matrices)
        return self.vectors + matrices

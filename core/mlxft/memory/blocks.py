"""Transformer blocks as matrices and activation sizes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Final

_SCALE_BYTES: Final = {"mxfp4": 1, "mxfp8": 1, "nvfp4": 1}
"""Bytes of a group's scale; affine mode has a scale and a bias in the model's dtype."""


@dataclass(frozen=True)
class Quantization:
    """Bits per weight, and a scale (and an affine bias) per group of weights."""

    bits: int
    group_size: int
    mode: str = "affine"

    def bytes_per_weight(self, dtype_bytes: int) -> float:
        """Packed bits plus the share of the group's scale and bias."""
        return self.bits / 8 + _SCALE_BYTES.get(self.mode, 2 * dtype_bytes) / self.group_size


@dataclass(frozen=True)
class Matrix:
    """A linear layer of `outputs` × `inputs`, once per expert.

    `name` is its path inside a block in mlx-lm. `active` is the number of experts per token.
    Matrices with the same input share the same `reads`. mlx-lm puts no adapter on a matrix that is
    not `adaptable`.
    """

    name: str
    outputs: int
    inputs: int
    _: KW_ONLY
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
        """Bytes of the matrix in the model's files."""
        if self.quantization is None:
            return self.parameters * dtype_bytes
        weights = self.experts * self.outputs * self.inputs
        biases = self.experts * self.outputs * self.bias
        return weights * self.quantization.bytes_per_weight(dtype_bytes) + biases * dtype_bytes


@dataclass(frozen=True)
class Recurrence:
    """A state passed from token to token: its float32 values, and those of a token's widest array.

    It is trained in chunks of tokens; only the states between them are kept.
    """

    state: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """One transformer block; `vectors` counts the parameters of norms, biases and the like.

    `width` is the number of values per token kept for the backward pass: inputs and outputs of
    norms, attention and activation functions; `routed` of them belong to experts. Attention scores
    come on top, one per head and earlier token; with `fused_attention` a GPU never stores them all.
    `head_size` is that of a query's head, 0 where it isn't known. `on_cpu` are values per token
    that a CPU, where nothing is compiled, keeps on top, or doesn't keep if negative;
    `routed_on_cpu` of them belong to experts.
    """

    matrices: tuple[Matrix, ...]
    vectors: int
    heads: int
    width: int
    fused_attention: bool = True
    head_size: int = 0
    routed: int = 0
    recurrence: Recurrence | None = None
    on_cpu: int = 0
    routed_on_cpu: int = 0

    @cached_property
    def parameters(self) -> int:
        """All of the block's parameters."""
        return self.vectors + sum(each.parameters for each in self.matrices)

    @cached_property
    def active_parameters(self) -> int:
        """Parameters used for one token."""
        matrices = sum(each.parameters * each.active // each.experts for each in self.matrices)
        return self.vectors + matrices
